revoke select on change_body from ocsp_publisher;
drop function responder_feed_pin(text, bytea, text, text), feed_keys_add(bigint, bytea, text, text);
drop table feed_guest;
drop index responder_feed_key_pin_key;
alter table responder drop constraint responder_feed_key_pin;
drop trigger guard on segment;
drop function segment_guard();
