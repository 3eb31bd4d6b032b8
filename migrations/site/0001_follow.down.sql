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
alter table certificate
  add constraint certificate_serial_check check (
    octet_length(serial) between 1 and 20 and get_byte(serial, 0) < 128
    and (octet_length(serial) = 1 or get_byte(serial, 0) <> 0 or get_byte(serial, 1) >= 128)),
  add constraint certificate_not_after_check check (isfinite(not_after) and not_after > '1971-01-01 00:00Z'
    and extract(microseconds from not_after)::int % 1000000 = 0),
  add constraint certificate_revoked_at_check check (isfinite(revoked_at) and revoked_at > '1971-01-01 00:00Z'
    and extract(microseconds from revoked_at)::int % 1000000 = 0),
  add constraint certificate_reason_check check (reason in (1, 2, 3, 4, 5, 6, 9, 10)),
  add constraint certificate_check check (reason is null or revoked_at is not null);
