-- The master seals the feed, and knows who may fetch it.
set role ocsp_owner;

-- Two publishers at one master, or one with an old snapshot, must not sign two
-- histories: what does not continue the last segment is refused.
create function ocsp_internal.segment_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' then
    raise exception 'segment % is sealed for ever', old.number using errcode = 'integrity_constraint_violation';
  end if;
  if (select coalesce(max(number), 0) + 1 from ocsp_internal.segment where epoch = new.epoch) <> new.number
     or (select coalesce(max(last), 0) + 1 from ocsp_internal.segment where epoch = new.epoch) <> new.first then
    raise exception 'segment % from position % does not continue the last one', new.number, new.first
      using errcode = 'integrity_constraint_violation', hint = 'Only one ocspsyncd publishes the feed of a master.';
  end if;
  return new;
end $$;
create trigger guard before insert or update on ocsp_internal.segment for each row execute function ocsp_internal.segment_guard();

-- ---------------------------------------------------------------- who may fetch

alter table ocsp_internal.responder add constraint responder_feed_key_pin check (octet_length(feed_key_pin) = 32);
create unique index responder_feed_key_pin_key on ocsp_internal.responder (feed_key_pin);

-- What the master saw of each site that fetched from it: for people, and for the pace
-- of imports.
create table ocsp_internal.feed_guest (
  site     text primary key references ocsp_internal.responder,
  position bigint not null,     -- that the site said it has
  seen_at  timestamptz not null,
  form     int not null         -- the newest form of the notes that it reads (feed.Form)
);

-- A site's TLS key, by the SHA-256 of its SubjectPublicKeyInfo; null: it may not fetch.
create function responder_feed_pin(p_site text, p_pin bytea, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r ocsp_internal.responder;
begin
  select * into r from ocsp_internal.responder where name = p_site for update;
  if not found then
    raise exception 'site % is not on the roster', p_site using errcode = 'no_data_found', hint = 'ocspctl responder list shows the sites.';
  elsif r.feed_key_pin is not distinct from p_pin then
    return false;
  elsif r.state = 'revoked' then
    raise exception 'site % is revoked: it is not let in again', p_site using errcode = 'check_violation';
  end if;
  if p_pin is not null then
    perform ocsp_internal.responder_claim('feed key', encode(p_pin, 'hex'), p_site);
  end if;
  update ocsp_internal.responder set feed_key_pin = p_pin where name = p_site;
  perform ocsp_internal.responder_pins_close(p_site);
  perform ocsp_internal.note('responder feed pin', jsonb_build_object('site', p_site, 'pin', encode(p_pin, 'hex')), p_why, p_os_user);
  return true;
end $$;

-- A key set that the feed root signed, checked by who brings it and by ocspsyncd.
create function feed_keys_add(p_number bigint, p_note bytea, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if (select note = p_note from ocsp_internal.feed_keys where number = p_number) then
    return false;
  elsif exists (select from ocsp_internal.feed_keys where number >= p_number) then
    raise exception 'key set % is not newer than those here', p_number using errcode = 'check_violation',
      hint = 'Have the feed root sign one with the next number.';
  end if;
  insert into ocsp_internal.feed_keys values (p_number, p_note);
  perform ocsp_internal.note('feed keys publish', jsonb_build_object('number', p_number, 'sha256', encode(sha256(p_note), 'hex')), p_why, p_os_user);
  return true;
end $$;

reset role;

-- Nothing of ours is everybody's: rights.txt says what each role may (package migrations).
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
