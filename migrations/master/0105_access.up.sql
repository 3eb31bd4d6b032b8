-- How a site reaches the master and is found: logins, replication slots, TLS keys, DNS.
set role ocsp_owner;

-- Slots that a site's login was seen to stream from, besides those that bear its name.
create table ocsp_internal.responder_slot (
  slot_name text primary key,
  site      text not null references ocsp_internal.responder
);

-- Slots that are no site's, and that the DBA wants: of a standby, of backups.
create table ocsp_internal.slot_allowed (
  slot_name text primary key
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

-- A login is made, or given a new password, by a superuser: for a person or a service;
-- null: as it is here, or p_usual if it is new here. Returns what it is then.
create function ocsp_internal.login_set(p_login text, p_kind text, p_usual text) returns text language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  select o.name, o.state into r from ocsp_internal.responder_credential m join ocsp_internal.responder o on o.name = m.site
    where m.kind = 'login' and m.value = p_login and o.state <> 'active';
  if found then
    raise exception 'login % was closed with site %, which is %', p_login, r.name, r.state using errcode = 'object_not_in_prerequisite_state',
      hint = case r.state when 'suspended' then 'ocspctl responder restore opens it.' else 'Choose another name.' end;
  end if;
  insert into ocsp_internal.login_kind as k values (p_login, coalesce(p_kind, p_usual)) on conflict (login) do update set kind = coalesce(p_kind, k.kind)
    returning kind into p_kind;
  return p_kind;
end $$;

create function ocsp_internal.responder_login(p_site text) returns text
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(login, replace(name, '-', '_')) from ocsp_internal.responder where name = p_site;
$$;

create function responder_login_set(p_site text, p_login text, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.responder_credential_claim('login', p_login, p_site) from ocsp_internal.responder where name = p_site;
  update ocsp_internal.responder set login = p_login where name = p_site and state = 'active' and login is distinct from p_login;
  if (select state from ocsp_internal.responder where name = p_site) is distinct from 'active' then
    raise exception 'site % is not active: it gets no login', p_site using errcode = 'check_violation', hint = 'ocspctl responder restore first; a revoked site never comes back.';
  end if;
  if found then
    perform ocsp_internal.audit_append('responder add', jsonb_build_object('site', p_site, 'login', p_login), p_why, p_os_user);
  end if;
  return found;
end $$;

-- The logins of a site that there are: the one that it has, and those that it had.
create function ocsp_internal.responder_logins(p_site text) returns table (login text, now boolean, open boolean)
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select r.rolname::text, r.rolname = ocsp_internal.responder_login(p_site), r.rolcanlogin
  from ocsp_internal.responder_credential k join pg_roles r on r.rolname = k.value
  where k.kind = 'login' and k.site = p_site and not r.rolsuper
    and exists (select from pg_auth_members m where m.member = r.oid and m.roleid = 'ocsp_replica'::regrole);
$$;

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
  elsif r.state in ('revoked', 'left') then
    raise exception 'site % is %: it is not let in again', p_site, r.state using errcode = 'check_violation';
  end if;
  if p_pin is not null then
    perform ocsp_internal.responder_credential_claim('feed key', encode(p_pin, 'hex'), p_site);
  end if;
  update ocsp_internal.responder set feed_key_pin = p_pin where name = p_site;
  perform ocsp_internal.responder_pins_close(p_site);
  perform ocsp_internal.audit_append('responder feed pin', jsonb_build_object('site', p_site, 'pin', encode(p_pin, 'hex')), p_why, p_os_user);
  return true;
end $$;

-- Whether a slot brings a site the signed files: its number begins with 0. The site's slot
-- for the rows, whose number is a time, is another one: files delay no row.
create function ocsp_internal.is_files_slot(p_slot text) returns boolean language sql immutable
  return p_slot ~ '^ocsp_.*_0[0-9]*$';

-- How far (in octets of WAL) every site that follows has applied what happened
-- here; null: none follows. A site that catches up after an outage is left out.
create function replicas_wrote() returns bigint language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select min(r.write_lsn - '0/0'::pg_lsn)::bigint from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
    where s.slot_type = 'logical' and not s.temporary and s.database = current_database() and r.state = 'streaming'
      and not ocsp_internal.is_files_slot(s.slot_name::text);
$$;

-- What the sites that stream say of themselves, by slot: ocspfleet/FORM, the newest form
-- of the signed notes that they read.
create function slot_programs() returns table (slot text, program text) language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.slot_name::text, r.application_name from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
    where s.slot_type = 'logical' and s.database = current_database();
$$;

-- The site of a slot, by its name or since it was seen; null: none.
create function ocsp_internal.slot_site(p_slot text) returns text language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce((select name from ocsp_internal.responder where p_slot ~ ('^ocsp_' || replace(name, '-', '_') || '_[0-9]+$')),
    (select site from ocsp_internal.responder_slot where slot_name = p_slot));
$$;

-- ocspsyncd at the master remembers which slots sites stream from now: a site may make
-- one of any name.
create function slots_seen() returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into ocsp_internal.responder_slot
    select distinct on (s.slot_name) s.slot_name::text, m.site from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
      join ocsp_internal.responder_credential m on m.kind = 'login' and m.value = r.usename
    where not s.temporary and ocsp_internal.slot_site(s.slot_name::text) is null
      and not exists (select from ocsp_internal.slot_allowed a where a.slot_name = s.slot_name)
  on conflict do nothing;
$$;

-- The holder of each slot, for doctor: an active or suspended site, or the DBA who allowed
-- it; site null and allowed false: none.
create function slot_holders() returns table (slot_name text, site text, allowed boolean)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.slot_name::text, r.name, exists (select from ocsp_internal.slot_allowed a where a.slot_name = s.slot_name)
  from pg_replication_slots s left join ocsp_internal.responder r on r.name = ocsp_internal.slot_site(s.slot_name::text) and r.state not in ('revoked', 'left')
  where not s.temporary order by 1;
$$;

-- The DBA allows a slot, or allows it no more.
create function ocsp_internal.slot_allow(p_slot text, p_allowed boolean, p_why text, p_os_user text) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if p_allowed then
    insert into ocsp_internal.slot_allowed values (p_slot) on conflict do nothing;
  else
    delete from ocsp_internal.slot_allowed where slot_name = p_slot;
  end if;
  if found then
    perform ocsp_internal.audit_append('db slot', jsonb_build_object('slot', p_slot, 'allowed', p_allowed), p_why, p_os_user);
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

-- Enters a change of the DNS into the audit: p_stage is begin (before it is asked for: broken off, it
-- may have been done or not), done or failed; spread: every server has what was withdrawn.
create function responder_dns_record(p_site text, p_action text, p_name text, p_addresses inet[], p_ttl interval, p_stage text, p_detail text, p_why text, p_os_user text)
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
  perform ocsp_internal.audit_append('responder dns', jsonb_build_object('site', p_site, 'action', p_action, 'name', p_name, 'addresses', to_jsonb(array(select host(a) from unnest(p_addresses) a)),
    'stage', p_stage, 'detail', p_detail), p_why, p_os_user);
end $$;

reset role;

-- What follows needs a superuser: the login that migrates owns it. It touches a login
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
      perform ocsp_internal.audit_append('responder access', jsonb_build_object('site', p_site, 'login', l.login, 'open', p_open), p_why, p_os_user);
    end if;
  end loop;
  return changed;
end $$;

-- Ends the sessions of a site's closed logins, running streams too, and returns how many
-- they were. The logins must be closed, and that committed, or they would be back at once.
create function responder_disconnect(p_site text) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  open text;
  ended bigint := 0;
begin
  perform ocsp_internal.refuse_trying('responder_disconnect');
  select login into open from ocsp_internal.responder_logins(p_site) l where l.open;
  if found then
    raise exception 'login % may still log in: close it first', open using errcode = 'object_not_in_prerequisite_state';
  end if;
  select count(pg_terminate_backend(pid, 5000)) into ended from pg_stat_activity
    where usename in (select login from ocsp_internal.responder_logins(p_site)) and pid <> pg_backend_pid();
  return ended;
end $$;

-- Drops the slots of a site that is revoked or left, those that it was seen to stream from too:
-- no process will read them any more.
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

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
