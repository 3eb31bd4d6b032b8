-- The life of sites and their certificates: series signed in advance, sites suspended
-- and revoked with their access.
set role ocsp_owner;

-- The staff's roster of sites, not replicated.
create table ocsp_internal.responder (
  name         text primary key check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  url          text not null constraint responder_url_long check (octet_length(url) <= 1024),
  addresses    text[] not null default '{}' constraint responder_addresses_long check (octet_length(addresses::text) <= 1024),
  state        text not null default 'active' check (state in ('active', 'suspended', 'revoked', 'left')),
  -- The login by which a site replicates from here; null: its name with _ for -.
  login        text unique check (login ~ '^[a-z][a-z0-9_]{0,62}$'),
  -- The SHA-256 of its TLS key's SubjectPublicKeyInfo; null: it may not fetch the feed.
  feed_key_pin bytea constraint responder_feed_key_pin check (octet_length(feed_key_pin) = 32),
  created_at   timestamptz not null default clock_timestamp()
);
create unique index responder_feed_key_pin_key on ocsp_internal.responder (feed_key_pin);

-- A key once enrolled belongs to one site, and a compromised one to none, for ever.
create table ocsp_internal.responder_key (
  key_hash bytea primary key check (octet_length(key_hash) = 32),  -- SHA-256(SPKI DER)
  site     text not null references ocsp_internal.responder,
  banned   boolean not null default false
);

-- Logins at the master and TLS keys that a site has, or had: they are that site's alone,
-- and close with it. What an active site has given up may go to another.
create table ocsp_internal.responder_credential (
  kind  text not null check (kind in ('login', 'feed key')),
  value text not null,  -- of a feed key: its pin in hex
  site  text not null references ocsp_internal.responder,
  primary key (kind, value)
);

create function ocsp_internal.responder_credential_claim(p_kind text, p_value text, p_site text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r ocsp_internal.responder;
begin
  insert into ocsp_internal.responder_credential values (p_kind, p_value, p_site) on conflict do nothing;
  if found then
    return;
  end if;
  select o.* into r from ocsp_internal.responder_credential m join ocsp_internal.responder o on o.name = m.site where (m.kind, m.value) = (p_kind, p_value) for update;
  if r.name = p_site then
    return;
  elsif r.state <> 'active' or p_value in (r.login, replace(r.name, '-', '_'), encode(r.feed_key_pin, 'hex')) then
    raise exception '% % is another site''s: %''s, which is %', p_kind, p_value, r.name, r.state using errcode = 'unique_violation',
      hint = case p_kind when 'login' then 'Every site has its own: ocspctl db user add NAME --role replica.' else 'Every site has its own: ocspctl key pin.' end;
  end if;
  update ocsp_internal.responder_credential set site = p_site where (kind, value) = (p_kind, p_value);
end $$;

-- The TLS keys of a site are closed to all relays while it is not active.
create function ocsp_internal.responder_pins_close(p_site text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if (select state = 'active' from ocsp_internal.responder where name = p_site) then
    delete from public.closed_pin using ocsp_internal.responder_credential m where m.kind = 'feed key' and m.site = p_site and pin = decode(m.value, 'hex');
  else
    insert into public.closed_pin select decode(value, 'hex') from ocsp_internal.responder_credential where kind = 'feed key' and site = p_site on conflict do nothing;
  end if;
end $$;

-- Serials that the CA made in advance: certificates are planned with nothing else, so
-- that no login here chooses what the CA signs. The CA recognizes its own serials and
-- signs each once.
create table ocsp_internal.serial_pool (
  issuer_id int not null,
  serial    bytea not null check (octet_length(serial) = 16 and get_byte(serial, 0) between 1 and 127),
  n         bigint generated always as identity,
  primary key (issuer_id, serial)
);
create index serial_pool_order on ocsp_internal.serial_pool (issuer_id, n);

-- Certificates that the CA signs, or has signed, and that were not released yet.
-- Their serials are registered: a site that is revoked loses these too.
create table ocsp_internal.responder_planned (
  issuer_id  int not null,
  serial     bytea not null,
  site       text not null references ocsp_internal.responder,
  key_hash   bytea not null check (octet_length(key_hash) = 32),
  not_before timestamptz not null,
  not_after  timestamptz not null check (not_after > not_before),
  primary key (issuer_id, serial)  -- of certificate; no foreign key, so that an operator may empty the replicated tables
);

-- Certificates of suspended sites whose issuers allow no hold (profile br): they leave
-- the replicated rows, so that the site finds none to sign with, and come back.
create table ocsp_internal.responder_withheld (
  fingerprint bytea primary key,
  issuer_id   int not null,
  serial      bytea not null,
  site        text not null references ocsp_internal.responder,
  key_hash    bytea not null,
  der         bytea not null,
  unique (issuer_id, serial)
);

-- A suspended or revoked site gets no certificate.
create function ocsp_internal.responder_must_be_active(p_site text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  is_state text;
begin
  select state into is_state from ocsp_internal.responder where name = p_site for share;
  if not found then
    raise exception 'site % is not on the roster', p_site using errcode = 'no_data_found', hint = 'ocspctl responder list shows the sites.';
  elsif is_state <> 'active' then
    raise exception 'site % is %: it gets no certificate', p_site, is_state using errcode = 'check_violation',
      hint = case is_state when 'suspended' then 'ocspctl responder restore first.' else 'Enrol it under a new name, with a new key.' end;
  end if;
end $$;

-- A released certificate is planned no more.
create function ocsp_internal.responder_certificate_insert_guard() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.responder_certificate'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  perform ocsp_internal.responder_must_be_active(new.site);
  delete from ocsp_internal.responder_planned p where (p.issuer_id, p.serial) = (new.issuer_id, new.serial);
  return new;
end $$;
create trigger insert_guard before insert on responder_certificate for each row execute function ocsp_internal.responder_certificate_insert_guard();

-- Addresses of null are those that the site has.
create function responder_add(p_name text, p_url text, p_addresses text[], p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  changed boolean;
  gone text;
begin
  select case state when 'left' then 'has left' else 'is revoked' end into gone from ocsp_internal.responder where name = p_name and state in ('revoked', 'left');
  if found then
    raise exception 'site % %: its name is not used again', p_name, gone using errcode = 'check_violation', hint = 'Enrol it under a new name, with a new key.';
  end if;
  p_addresses := coalesce(p_addresses, (select addresses from ocsp_internal.responder where name = p_name for update), '{}');
  insert into ocsp_internal.responder (name, url, addresses) values (p_name, p_url, p_addresses)
    on conflict (name) do update set url = excluded.url, addresses = excluded.addresses
    where (responder.url, responder.addresses) is distinct from (excluded.url, excluded.addresses);
  changed := found;
  perform ocsp_internal.responder_credential_claim('login', replace(p_name, '-', '_'), p_name);  -- its login, unless another is named
  if changed then
    perform ocsp_internal.audit_append('responder add', jsonb_build_object('site', p_name, 'url', p_url, 'addresses', p_addresses), p_why, p_os_user);
  end if;
  return changed;
end $$;

-- Takes serials that the CA made into the pool, and returns how many were new.
create function serial_pool_add(p_issuer int, p_serials bytea[], p_why text, p_os_user text) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  added bigint;
begin
  if cardinality(p_serials) not between 1 and 10000 then
    raise exception '% serials at once: want 1 to 10000', cardinality(p_serials) using errcode = 'invalid_parameter_value';
  elsif not exists (select from public.issuer where id = p_issuer) then
    raise exception 'there is no issuer %', p_issuer using errcode = 'no_data_found';
  end if;
  insert into ocsp_internal.serial_pool (issuer_id, serial)
    select p_issuer, s from unnest(p_serials) with ordinality u (s, i)
    where not exists (select from public.certificate c where c.issuer_id = p_issuer and c.serial = s) order by i on conflict do nothing;
  get diagnostics added = row_count;
  perform ocsp_internal.audit_append('responder serials', jsonb_build_object('issuer', p_issuer, 'added', added), p_why, p_os_user);
  return added;
end $$;

-- Registers a certificate before the CA signs it, with a serial of the pool: the one
-- that is named, or the oldest. It returns the serial.
create function responder_plan(p_issuer int, p_serial bytea, p_site text, p_key_hash bytea, p_not_before timestamptz, p_not_after timestamptz,
    p_why text, p_os_user text) returns bytea language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  k ocsp_internal.responder_key;
  taken bytea;
begin
  perform ocsp_internal.responder_must_be_active(p_site);
  insert into ocsp_internal.responder_key (key_hash, site) values (p_key_hash, p_site) on conflict do nothing;
  select * into k from ocsp_internal.responder_key where key_hash = p_key_hash for share;
  if k.banned or k.site <> p_site then
    raise exception 'key % is banned, or another site''s (%)', encode(p_key_hash, 'hex'), k.site using errcode = 'check_violation',
      hint = 'Every site has its own key: ocspctl key generate.';
  end if;
  loop
    delete from ocsp_internal.serial_pool p where p.issuer_id = p_issuer and p.serial = (
      select o.serial from ocsp_internal.serial_pool o where o.issuer_id = p_issuer and (p_serial is null or o.serial = p_serial)
      order by o.n limit 1 for update skip locked) returning p.serial into taken;
    if taken is null then
      raise exception 'the pool of issuer % has no serial %', p_issuer, coalesce(encode(p_serial, 'hex'), 'left') using errcode = 'object_not_in_prerequisite_state',
        hint = 'Make more at the CA (ocspctl ca-sign serials) and take them here (ocspctl responder serials).';
    end if;
    -- One that is issued already comes from a pool that was restored with a backup.
    continue when exists (select from public.certificate c where c.issuer_id = p_issuer and c.serial = taken);
    exit when public.certificate_issue(p_issuer, taken, p_not_after, p_why, p_os_user);  -- false: another session did, just now
  end loop;
  insert into ocsp_internal.responder_planned values (p_issuer, taken, p_site, p_key_hash, p_not_before, p_not_after);
  return taken;
end $$;

-- Only a planned certificate with this very key is added: so no other site has its serial.
create function responder_certificate_add(p_issuer int, p_serial bytea, p_site text, p_key_hash bytea, p_der bytea, p_why text, p_os_user text)
  returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from ocsp_internal.responder_planned p where (p.issuer_id, p.serial, p.site, p.key_hash) = (p_issuer, p_serial, p_site, p_key_hash) for update;
  if not found then
    raise exception 'certificate % of issuer % was not planned for site % and this key', encode(p_serial, 'hex'), p_issuer, p_site using errcode = 'check_violation',
      hint = 'ocspctl responder add plans it before it is signed.';
  end if;
  insert into public.responder_certificate (fingerprint, issuer_id, serial, site, key_hash, der)
    values (sha256(p_der), p_issuer, p_serial, p_site, p_key_hash, p_der);
  perform ocsp_internal.audit_append('responder certificate add', jsonb_build_object('site', p_site, 'issuer', p_issuer, 'serial', encode(p_serial, 'hex'),
    'key_hash', encode(p_key_hash, 'hex'), 'fingerprint', encode(sha256(p_der), 'hex')), p_why, p_os_user);
end $$;

-- The site that a certificate belongs to; null: none.
create function ocsp_internal.site_of(p_issuer int, p_serial bytea) returns text language sql stable set search_path = pg_catalog, pg_temp as $$
  select site from public.responder_certificate where issuer_id = p_issuer and serial = p_serial
  union all select site from ocsp_internal.responder_withheld where issuer_id = p_issuer and serial = p_serial
  union all select site from ocsp_internal.responder_planned where issuer_id = p_issuer and serial = p_serial limit 1;
$$;

-- A site's own certificates are on hold while it is suspended, and at no other time,
-- whichever program writes. Every login that may revoke may revoke them for ever: that is
-- safe.
create function ocsp_internal.site_hold_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  select name, state into r from ocsp_internal.responder where name = ocsp_internal.site_of(new.issuer_id, new.serial);
  if r.state is null or new.revoked_at is not null and new.reason is distinct from 6 or (r.state = 'suspended') = (new.reason is not distinct from 6) then
    return new;
  end if;
  raise exception 'certificate % of issuer % is site %''s own, which is %: it is not put on hold nor released by itself',
    encode(new.serial, 'hex'), new.issuer_id, r.name, r.state using errcode = 'check_violation',
    hint = format('ocspctl responder %s %s.', case r.state when 'suspended' then 'restore' else 'suspend' end, r.name);
end $$;
create trigger site_hold before update on certificate for each row
  when ((old.reason is not distinct from 6) <> (new.reason is not distinct from 6)) execute function ocsp_internal.site_hold_guard();

-- All unexpired certificates of a site, the superseded, unreleased and withheld included.
create function ocsp_internal.responder_serials(p_site text) returns table (issuer_id int, serial bytea)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.issuer_id, s.serial from (
    select r.issuer_id, r.serial from public.responder_certificate r where r.site = p_site
    union select w.issuer_id, w.serial from ocsp_internal.responder_withheld w where w.site = p_site
    union select p.issuer_id, p.serial from ocsp_internal.responder_planned p where p.site = p_site) s
  join public.certificate c using (issuer_id, serial) where c.not_after > clock_timestamp() order by 1, 2;
$$;

-- Turns a site to a state, with its TLS keys, and returns whether it was in another one. A
-- revoked or left site never comes back: its keys are banned. One that left may be revoked.
create function ocsp_internal.responder_state_set(p_site text, p_state text) returns boolean language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  was text;
begin
  select state into was from ocsp_internal.responder where name = p_site for update;
  if not found then
    raise exception 'site % is not on the roster', p_site using errcode = 'no_data_found', hint = 'ocspctl responder list shows the sites.';
  elsif was in ('revoked', 'left') and p_state not in (was, 'revoked') then
    raise exception 'site % %', p_site, case was when 'left' then 'has left' else 'is revoked for ever' end || case p_state when 'active' then ': only a suspended one is restored' else '' end
      using errcode = 'check_violation', hint = 'Enrol it under a new name, with a new key.';
  elsif was = 'suspended' and p_state = 'left' then
    raise exception 'site % is suspended: only an active one leaves', p_site using errcode = 'check_violation', hint = 'ocspctl responder restore or revoke it.';
  end if;
  update ocsp_internal.responder set state = p_state where name = p_site;
  perform ocsp_internal.responder_pins_close(p_site);
  update ocsp_internal.responder_key set banned = true where site = p_site and p_state in ('revoked', 'left');
  return was <> p_state;
end $$;

-- Revokes all of a site's certificates for ever and bans its keys, at once; done
-- again it does what is left. No hourly limit: a site that was broken into must go.
create function responder_revoke(p_site text, p_reason smallint, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
  any_changed boolean;
begin
  if p_reason = 6 then
    raise exception 'a site is suspended with responder suspend, not revoked with certificateHold' using errcode = 'check_violation';
  end if;
  any_changed := ocsp_internal.responder_state_set(p_site, 'revoked');
  for r in select * from ocsp_internal.responder_serials(p_site) loop
    issuer_id := r.issuer_id;
    serial := r.serial;
    select v.changed into changed from ocsp_internal.certificate_revoke_row('cert revoke', r.issuer_id, r.serial, p_reason, null, p_why, p_os_user) v;
    any_changed := any_changed or changed;
    return next;
  end loop;
  if any_changed then
    perform ocsp_internal.audit_append('responder revoke', jsonb_build_object('site', p_site, 'reason', p_reason), p_why, p_os_user);
  end if;
end $$;

-- Puts a site's certificates on hold, which can be taken back. Profile br allows no hold
-- (BR 4.9.13): there the certificates are withheld from the site, whose copy then has none
-- to sign with.
create function responder_suspend(p_site text, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
  any_changed boolean;
begin
  any_changed := ocsp_internal.responder_state_set(p_site, 'suspended');
  for r in select s.*, i.profile from ocsp_internal.responder_serials(p_site) s join public.issuer i on i.id = s.issuer_id order by 1, 2 loop
    issuer_id := r.issuer_id;
    serial := r.serial;
    if not ocsp_internal.allows_hold(r.issuer_id) then
      with gone as (
        delete from public.responder_certificate c where (c.issuer_id, c.serial) = (r.issuer_id, r.serial)
          returning c.fingerprint, c.issuer_id, c.serial, c.site, c.key_hash, c.der)
      insert into ocsp_internal.responder_withheld select * from gone;
      changed := found;
    else
      select v.changed into changed from ocsp_internal.certificate_revoke_row('cert hold', r.issuer_id, r.serial, 6::smallint, null, p_why, p_os_user) v;
    end if;
    any_changed := any_changed or changed;
    return next;
  end loop;
  if any_changed then
    perform ocsp_internal.audit_append('responder suspend', jsonb_build_object('site', p_site), p_why, p_os_user);
  end if;
end $$;

create function responder_restore(p_site text, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
  any_changed boolean;
begin
  any_changed := ocsp_internal.responder_state_set(p_site, 'active');
  for r in select s.* from ocsp_internal.responder_serials(p_site) s join public.certificate c using (issuer_id, serial)
           where c.revoked_at is not null and c.reason = 6 order by 1, 2 loop
    issuer_id := r.issuer_id;
    serial := r.serial;
    changed := public.certificate_release(r.issuer_id, r.serial, p_why, p_os_user);
    any_changed := true;
    return next;
  end loop;
  for r in with back as (delete from ocsp_internal.responder_withheld w where w.site = p_site returning *) select * from back order by issuer_id, serial loop
    insert into public.responder_certificate (fingerprint, issuer_id, serial, site, key_hash, der)
      values (r.fingerprint, r.issuer_id, r.serial, r.site, r.key_hash, r.der);
    issuer_id := r.issuer_id;
    serial := r.serial;
    changed := true;
    any_changed := true;
    return next;
  end loop;
  if any_changed then
    perform ocsp_internal.audit_append('responder restore', jsonb_build_object('site', p_site), p_why, p_os_user);
  end if;
end $$;

-- A site leaves in peace: its certificates, which are returned, stay good until they end,
-- since answers that it signed live on in caches and staples. Those that an offline CA
-- signed ahead, and that were never released, are revoked (cessationOfOperation).
create function responder_leave(p_site text, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if ocsp_internal.responder_state_set(p_site, 'left') then
    perform ocsp_internal.audit_append('responder leave', jsonb_build_object('site', p_site), p_why, p_os_user);
  end if;
  for issuer_id, serial, changed in
    select s.*, exists (select from ocsp_internal.responder_planned p where (p.issuer_id, p.serial) = (s.issuer_id, s.serial)) from ocsp_internal.responder_serials(p_site) s
  loop
    if changed then
      select v.changed into changed from ocsp_internal.certificate_revoke_row('cert revoke', issuer_id, serial, 5::smallint, null, p_why, p_os_user) v;
    end if;
    return next;
  end loop;
end $$;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
