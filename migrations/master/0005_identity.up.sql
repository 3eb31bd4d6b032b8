-- The life of responder certificates: series signed in advance, sites suspended
-- and revoked with their access, and the CRL of responder certificates.
set role ocsp_owner;

-- The login by which a site replicates from here; null: its name with _ for -.
alter table ocsp_internal.responder add column login text unique check (login ~ '^[a-z][a-z0-9_]{0,62}$');

-- Logins at the master and TLS keys that a site has, or had: they are that site's alone,
-- and close with it. What an active site has given up may go to another.
create table ocsp_internal.responder_mark (
  kind  text not null check (kind in ('login', 'feed key')),
  value text not null,  -- of a feed key: its pin in hex
  site  text not null references ocsp_internal.responder,
  primary key (kind, value)
);

create function ocsp_internal.responder_claim(p_kind text, p_value text, p_site text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r ocsp_internal.responder;
begin
  insert into ocsp_internal.responder_mark values (p_kind, p_value, p_site) on conflict do nothing;
  if found then
    return;
  end if;
  select o.* into r from ocsp_internal.responder_mark m join ocsp_internal.responder o on o.name = m.site where (m.kind, m.value) = (p_kind, p_value) for update;
  if r.name = p_site then
    return;
  elsif r.state <> 'active' or p_value in (r.login, replace(r.name, '-', '_'), encode(r.feed_key_pin, 'hex')) then
    raise exception '% % is another site''s: %''s, which is %', p_kind, p_value, r.name, r.state using errcode = 'unique_violation',
      hint = case p_kind when 'login' then 'Every site has its own: ocspctl db user add NAME --role replica.' else 'Every site has its own: ocspctl key pin.' end;
  end if;
  update ocsp_internal.responder_mark set site = p_site where (kind, value) = (p_kind, p_value);
end $$;

-- The TLS keys of a site are closed to all relays while it is not active.
create function ocsp_internal.responder_pins_close(p_site text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if (select state = 'active' from ocsp_internal.responder where name = p_site) then
    delete from public.closed_pin using ocsp_internal.responder_mark m where m.kind = 'feed key' and m.site = p_site and pin = decode(m.value, 'hex');
  else
    insert into public.closed_pin select decode(value, 'hex') from ocsp_internal.responder_mark where kind = 'feed key' and site = p_site on conflict do nothing;
  end if;
end $$;

-- A login is made, or given a new password, by a superuser: for a person or a service;
-- null: as it is here, or p_usual if it is new here. Returns what it is then.
create function ocsp_internal.login_set(p_login text, p_kind text, p_usual text) returns text language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  select o.name, o.state into r from ocsp_internal.responder_mark m join ocsp_internal.responder o on o.name = m.site
    where m.kind = 'login' and m.value = p_login and o.state <> 'active';
  if found then
    raise exception 'login % was closed with site %, which is %', p_login, r.name, r.state using errcode = 'object_not_in_prerequisite_state',
      hint = case r.state when 'suspended' then 'ocspctl responder restore opens it.' else 'Choose another name.' end;
  end if;
  insert into ocsp_internal.login_kind as k values (p_login, coalesce(p_kind, p_usual)) on conflict (login) do update set kind = coalesce(p_kind, k.kind)
    returning kind into p_kind;
  return p_kind;
end $$;

-- Serials that the CA made in advance: certificates are planned with nothing else, so
-- that nobody here chooses what the CA signs. It knows its own and signs each once.
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

-- Certificates of suspended sites whose issuers know no hold (profile br): they leave
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

-- Slots that a site's login was seen to stream from, besides those that bear its name.
create table ocsp_internal.responder_slot (
  slot_name text primary key,
  site      text not null references ocsp_internal.responder
);

-- Slots that are no site's, and that the DBA wants: of a standby, of backups.
create table ocsp_internal.slot_allowed (
  slot_name text primary key
);

-- The numbers of CRLs: the last one taken, the one that was published, and the
-- head's position that its rows were read at.
create table ocsp_internal.crl_number (
  issuer_id int primary key,
  last      bigint not null,
  published bigint not null default 0,
  position  bigint not null default 0
);

-- CRLs that an offline CA was asked to sign and that were not published yet.
create table ocsp_internal.crl_planned (
  issuer_id   int not null,
  number      bigint not null,
  position    bigint not null,  -- of the head that its rows were read at
  this_update timestamptz not null,
  next_update timestamptz not null check (next_update > this_update),
  content     bytea not null check (octet_length(content) = 32),  -- SHA-256 of what it is to say (ops/fleet)
  primary key (issuer_id, number)
);

-- The addresses that were taken out of the DNS with a site: what restore puts back. Until
-- held_until resolvers may give them; null: not every name server has the change yet.
create table ocsp_internal.responder_dns (
  site       text not null references ocsp_internal.responder,
  name       text not null,
  address    inet not null,
  ttl        interval not null,
  held_until timestamptz,
  primary key (site, name, address)
);

-- A suspended or revoked site gets no certificate.
create function ocsp_internal.responder_admit(p_site text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
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
create function ocsp_internal.responder_certificate_admit() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.responder_certificate'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  perform ocsp_internal.responder_admit(new.site);
  delete from ocsp_internal.responder_planned p where (p.issuer_id, p.serial) = (new.issuer_id, new.serial);
  return new;
end $$;
create trigger admit before insert on responder_certificate for each row execute function ocsp_internal.responder_certificate_admit();

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
  perform ocsp_internal.note('responder serials', jsonb_build_object('issuer', p_issuer, 'added', added), p_why, p_os_user);
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
  perform ocsp_internal.responder_admit(p_site);
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
    exit when public.certificate_issue(p_issuer, taken, p_not_after, p_why, p_os_user);  -- false: somebody else did, just now
  end loop;
  insert into ocsp_internal.responder_planned values (p_issuer, taken, p_site, p_key_hash, p_not_before, p_not_after);
  return taken;
end $$;

-- Whose own a certificate is; null: no site's.
create function ocsp_internal.site_of(p_issuer int, p_serial bytea) returns text language sql stable set search_path = pg_catalog, pg_temp as $$
  select site from public.responder_certificate where issuer_id = p_issuer and serial = p_serial
  union all select site from ocsp_internal.responder_withheld where issuer_id = p_issuer and serial = p_serial
  union all select site from ocsp_internal.responder_planned where issuer_id = p_issuer and serial = p_serial limit 1;
$$;

-- A site's own certificates are on hold while it is suspended, and never else: whoever
-- writes. Revoked for ever they may be by anybody who may revoke: that is safe.
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
create function ocsp_internal.responder_turn(p_site text, p_state text) returns boolean language plpgsql set search_path = pg_catalog, pg_temp as $$
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
  any_changed := ocsp_internal.responder_turn(p_site, 'revoked');
  for r in select * from ocsp_internal.responder_serials(p_site) loop
    issuer_id := r.issuer_id;
    serial := r.serial;
    select v.changed into changed from ocsp_internal.certificate_revoke_row('cert revoke', r.issuer_id, r.serial, p_reason, null, p_why, p_os_user) v;
    any_changed := any_changed or changed;
    return next;
  end loop;
  if any_changed then
    perform ocsp_internal.note('responder revoke', jsonb_build_object('site', p_site, 'reason', p_reason), p_why, p_os_user);
  end if;
end $$;

-- The half that can be taken back: certificates on hold. Profile br knows none (BR
-- 4.9.13): there they are withheld from the site, whose copy then has none to sign with.
create function responder_suspend(p_site text, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
  any_changed boolean;
begin
  any_changed := ocsp_internal.responder_turn(p_site, 'suspended');
  for r in select s.*, i.profile from ocsp_internal.responder_serials(p_site) s join public.issuer i on i.id = s.issuer_id order by 1, 2 loop
    issuer_id := r.issuer_id;
    serial := r.serial;
    if not ocsp_internal.knows_hold(r.issuer_id) then
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
    perform ocsp_internal.note('responder suspend', jsonb_build_object('site', p_site), p_why, p_os_user);
  end if;
end $$;

create function responder_restore(p_site text, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
  any_changed boolean;
begin
  any_changed := ocsp_internal.responder_turn(p_site, 'active');
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
    perform ocsp_internal.note('responder restore', jsonb_build_object('site', p_site), p_why, p_os_user);
  end if;
end $$;

-- A site leaves in peace: its certificates, which are returned, stay good until they end,
-- since answers that it signed live on in caches and staples. Those that an offline CA
-- signed ahead, and nobody has seen, are revoked (cessationOfOperation).
create function responder_leave(p_site text, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if ocsp_internal.responder_turn(p_site, 'left') then
    perform ocsp_internal.note('responder leave', jsonb_build_object('site', p_site), p_why, p_os_user);
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

create function ocsp_internal.responder_login(p_site text) returns text
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(login, replace(name, '-', '_')) from ocsp_internal.responder where name = p_site;
$$;

create function responder_login_set(p_site text, p_login text, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.responder_claim('login', p_login, p_site) from ocsp_internal.responder where name = p_site;
  update ocsp_internal.responder set login = p_login where name = p_site and state = 'active' and login is distinct from p_login;
  if (select state from ocsp_internal.responder where name = p_site) is distinct from 'active' then
    raise exception 'site % is not active: it gets no login', p_site using errcode = 'check_violation', hint = 'ocspctl responder restore first; a revoked site never comes back.';
  end if;
  if found then
    perform ocsp_internal.note('responder add', jsonb_build_object('site', p_site, 'login', p_login), p_why, p_os_user);
  end if;
  return found;
end $$;

-- The logins of a site that there are: the one that it has, and those that it had.
create function ocsp_internal.responder_logins(p_site text) returns table (login text, now boolean, open boolean)
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select r.rolname::text, r.rolname = ocsp_internal.responder_login(p_site), r.rolcanlogin
  from ocsp_internal.responder_mark k join pg_roles r on r.rolname = k.value
  where k.kind = 'login' and k.site = p_site and not r.rolsuper
    and exists (select from pg_auth_members m where m.member = r.oid and m.roleid = 'ocsp_replica'::regrole);
$$;

-- Whose a slot is, by its name or since it was seen; null: no site's.
create function ocsp_internal.slot_site(p_slot text) returns text language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce((select name from ocsp_internal.responder where p_slot ~ ('^ocsp_' || replace(name, '-', '_') || '_[0-9]+$')),
    (select site from ocsp_internal.responder_slot where slot_name = p_slot));
$$;

-- ocspsyncd at the master remembers which slots sites stream from now: a site may make
-- one of any name.
create function slots_seen() returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into ocsp_internal.responder_slot
    select distinct on (s.slot_name) s.slot_name::text, m.site from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
      join ocsp_internal.responder_mark m on m.kind = 'login' and m.value = r.usename
    where not s.temporary and ocsp_internal.slot_site(s.slot_name::text) is null
      and not exists (select from ocsp_internal.slot_allowed a where a.slot_name = s.slot_name)
  on conflict do nothing;
$$;

-- Whose each slot is, for doctor: an active or suspended site's, allowed by the DBA, or
-- nobody's (both null and false).
create function slot_holders() returns table (slot_name text, site text, allowed boolean)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.slot_name::text, r.name, exists (select from ocsp_internal.slot_allowed a where a.slot_name = s.slot_name)
  from pg_replication_slots s left join ocsp_internal.responder r on r.name = ocsp_internal.slot_site(s.slot_name::text) and r.state not in ('revoked', 'left')
  where not s.temporary order by 1;
$$;

-- The DBA's word that a slot is wanted, or is no more.
create function ocsp_internal.slot_allow(p_slot text, p_allowed boolean, p_why text, p_os_user text) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if p_allowed then
    insert into ocsp_internal.slot_allowed values (p_slot) on conflict do nothing;
  else
    delete from ocsp_internal.slot_allowed where slot_name = p_slot;
  end if;
  if found then
    perform ocsp_internal.note('db slot', jsonb_build_object('slot', p_slot, 'allowed', p_allowed), p_why, p_os_user);
    return true;
  end if;
  return false;
end $$;

-- How a site's native replication stands: its login (null: there is none), whether
-- one of those that it has or had may log in, their sessions and the site's slots; how far the master's
-- log goes and how much of it a running stream has confirmed (null: none runs), in octets.
create function responder_access(p_site text) returns table (login text, open boolean, sessions bigint, slots bigint, written bigint, confirmed bigint)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select l.login, l.open, (select count(*) from pg_stat_activity a where a.usename = any (l.logins)),
    count(s.slot_name), (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, max((s.confirmed_flush_lsn - '0/0'::pg_lsn)::bigint) filter (where s.active and not ocsp_internal.is_files_slot(s.slot_name::text))
  from (select coalesce(min(login) filter (where now), min(login)) as login, coalesce(bool_or(open), false) as open, coalesce(array_agg(login), '{}') as logins
    from ocsp_internal.responder_logins(p_site)) l
  left join pg_replication_slots s on ocsp_internal.slot_site(s.slot_name::text) = p_site
  group by l.login, l.open, l.logins;
$$;

-- Notes a change of the DNS: p_stage is begin (before it is asked for: broken off, it
-- may have been done or not), done or failed; spread: every server has what was withdrawn.
create function responder_dns_note(p_site text, p_action text, p_name text, p_addresses inet[], p_ttl interval, p_stage text, p_detail text, p_why text, p_os_user text)
  returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_action not in ('withdraw', 'publish') or p_stage not in ('begin', 'done', 'failed', 'spread') then
    raise exception 'action % at stage %', p_action, p_stage using errcode = 'check_violation';
  end if;
  if p_action = 'withdraw' and p_stage = 'begin' then
    insert into ocsp_internal.responder_dns select p_site, p_name, a, p_ttl from unnest(p_addresses) a
      on conflict (site, name, address) do update set ttl = excluded.ttl, held_until = null;
  elsif p_stage = 'spread' then
    update ocsp_internal.responder_dns set held_until = clock_timestamp() + ttl where site = p_site and held_until is null;
    return;  -- no change: the audit has when it was done
  elsif p_action = 'publish' and p_stage = 'done' then
    delete from ocsp_internal.responder_dns where site = p_site and name = p_name and address = any (p_addresses);
  end if;
  perform ocsp_internal.note('responder dns', jsonb_build_object('site', p_site, 'action', p_action, 'name', p_name, 'addresses', to_jsonb(array(select host(a) from unnest(p_addresses) a)),
    'stage', p_stage, 'detail', p_detail), p_why, p_os_user);
end $$;

-- Takes p_count numbers for CRLs and returns the first. RFC 5280 section 5.2.3 has them
-- grow for ever, and a counter alone would go back in a master that was restored from a
-- backup: so a number is never below the clock's milliseconds since 1970.
create function crl_next(p_issuer int, p_count int) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  clock constant bigint := floor(extract(epoch from clock_timestamp()) * 1000);
  first bigint;
begin
  if p_count is null or p_count not between 1 and 1000 then
    raise exception '% numbers at once: want 1 to 1000', p_count using errcode = 'invalid_parameter_value';
  end if;
  insert into ocsp_internal.crl_number as n (issuer_id, last) values (p_issuer, clock + p_count - 1)
    on conflict (issuer_id) do update set last = greatest(n.last + 1, clock) + p_count - 1
    returning n.last - p_count + 1 into first;
  return first;
end $$;

-- Notes what an offline CA is asked to sign: only that is published later.
create function crl_plan(p_issuer int, p_number bigint, p_position bigint, p_this_update timestamptz, p_next_update timestamptz, p_content bytea,
    p_entries int, p_why text, p_os_user text) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_number > coalesce((select last from ocsp_internal.crl_number where issuer_id = p_issuer), 0) then
    raise exception 'number % of a CRL of issuer % was not taken', p_number, p_issuer using errcode = 'check_violation';
  end if;
  insert into ocsp_internal.crl_planned values (p_issuer, p_number, p_position, p_this_update, p_next_update, p_content);
  perform ocsp_internal.note('crl bundle', jsonb_build_object('issuer', p_issuer, 'number', p_number, 'entries', p_entries,
    'this_update', p_this_update, 'content', encode(p_content, 'hex')), p_why, p_os_user);
end $$;

-- Publishes a CRL. One whose rows were read before those of the published one, or
-- that has a lower number, is refused: it might take an entry back.
create function crl_put(p_issuer int, p_number bigint, p_position bigint, p_der bytea, p_entries int, p_why text, p_os_user text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update ocsp_internal.crl_number n set published = p_number, position = p_position
    where n.issuer_id = p_issuer and p_number <= n.last and p_number > n.published and p_position >= n.position;
  if not found then
    raise exception 'a newer CRL of issuer % was published meanwhile', p_issuer using errcode = 'object_not_in_prerequisite_state', hint = 'Run ocspctl crl issue again.';
  end if;
  delete from ocsp_internal.crl_planned c where c.issuer_id = p_issuer and (c.number <= p_number or c.position < p_position);
  update public.issuer set crl = p_der where id = p_issuer;
  perform ocsp_internal.note('crl issue', jsonb_build_object('issuer', p_issuer, 'number', p_number, 'entries', p_entries,
    'sha256', encode(sha256(p_der), 'hex')), p_why, p_os_user);
end $$;

reset role;

-- What follows needs a superuser: its owner is who migrates. It touches a login
-- only if that is a replica's and no superuser's, and a slot only by its site's name.

-- Closes a site's login, with those that it had before, or opens the one that it has.
-- Null: it has none.
create function responder_login_open(p_site text, p_open boolean, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  l record;
  is_state text;
  changed boolean;
begin
  perform ocsp_internal.refuse_trying('responder_login_open');
  select state into is_state from ocsp_internal.responder where name = p_site for share;
  if (is_state = 'active') is distinct from p_open then
    raise exception 'site % is %: its login is not to be %', p_site, is_state, case when p_open then 'opened' else 'closed' end
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  for l in select * from ocsp_internal.responder_logins(p_site) where now or not p_open loop
    changed := coalesce(changed, false) or l.open <> p_open;
    if l.open <> p_open then
      execute format('alter role %I %s', l.login, case when p_open then 'login' else 'nologin' end);
      perform ocsp_internal.note('responder access', jsonb_build_object('site', p_site, 'login', l.login, 'open', p_open), p_why, p_os_user);
    end if;
  end loop;
  return changed;
end $$;

-- Ends the sessions of a site's closed logins, running streams too, and returns how many
-- they were. The logins must be closed, and that committed, or they would be back at once.
create function responder_cut(p_site text) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  open text;
  ended bigint := 0;
begin
  perform ocsp_internal.refuse_trying('responder_cut');
  select login into open from ocsp_internal.responder_logins(p_site) l where l.open;
  if found then
    raise exception 'login % may still log in: close it first', open using errcode = 'object_not_in_prerequisite_state';
  end if;
  select count(pg_terminate_backend(pid, 5000)) into ended from pg_stat_activity
    where usename in (select login from ocsp_internal.responder_logins(p_site)) and pid <> pg_backend_pid();
  return ended;
end $$;

-- Drops the slots of a site that is revoked or left, those that it was seen to stream from too:
-- nobody will read them any more.
create function responder_slots_drop(p_site text) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  s record;
  dropped bigint := 0;
begin
  perform ocsp_internal.refuse_trying('responder_slots_drop');
  if not exists (select from ocsp_internal.responder where name = p_site and state in ('revoked', 'left')) then
    raise exception 'site % is not revoked and has not left: its slots stay', p_site using errcode = 'object_not_in_prerequisite_state';
  end if;
  for s in select slot_name from public.slot_holders() h join pg_replication_slots r using (slot_name)
           where ocsp_internal.slot_site(slot_name) = p_site and not h.allowed and not r.active loop
    perform pg_drop_replication_slot(s.slot_name);
    dropped := dropped + 1;
  end loop;
  return dropped;
end $$;

-- Nothing of ours is everybody's: rights.txt says what each role may (package migrations).
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
