select subscription_drop();
drop function subscription_create(text, int, text, text, text, text, text), subscription_connect(text, int, text, text, text, text),
  subscription_conninfo(text, int, text, text, text, text), subscription_drop(), subscription_enable(boolean);
drop trigger site_touch on certificate;
drop trigger site_bury on certificate;
drop trigger site_wake on feed_head;
drop table site_state, site_tombstone;
alter table certificate drop column site_seq;
drop function site_touch(), site_bury(), site_wake();
drop sequence site_seq;
alter table certificate add foreign key (issuer_id) references issuer;
alter table responder_certificate add foreign key (issuer_id, serial) references certificate;
