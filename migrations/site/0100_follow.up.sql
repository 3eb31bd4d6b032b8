-- What a site needs so that its responder can follow its own database.
set role ocsp_owner;

-- Numbers every local change in commit order (one apply worker writes them).
create sequence ocsp_internal.site_seq cache 1;
alter table certificate add column site_seq bigint not null default nextval('ocsp_internal.site_seq');
create index certificate_site_seq on certificate (site_seq);

create function ocsp_internal.site_touch() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.certificate'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  new.site_seq := nextval('ocsp_internal.site_seq');
  return new;
end $$;

create table ocsp_internal.site_tombstone (
  site_seq  bigint primary key default nextval('ocsp_internal.site_seq'),
  issuer_id int not null,
  serial    bytea not null,
  at        timestamptz not null default clock_timestamp()
);

create function ocsp_internal.site_deleted() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.certificate'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  insert into ocsp_internal.site_tombstone (issuer_id, serial) values (old.issuer_id, old.serial);
  return null;
end $$;

create function ocsp_internal.site_notify() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.feed_head'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  perform pg_notify('ocsp_head', '');
  return null;
end $$;

create trigger site_touch before update on certificate for each row execute function ocsp_internal.site_touch();
create trigger site_deleted after delete on certificate for each row execute function ocsp_internal.site_deleted();
create trigger site_notify after insert or update on feed_head for each row execute function ocsp_internal.site_notify();
-- The apply worker fires only ENABLE ALWAYS row triggers.
alter table certificate enable always trigger site_touch;
alter table certificate enable always trigger site_deleted;
alter table feed_head enable always trigger site_notify;

-- The memory of permanent revocations: each that ever came here, until a day after its
-- certificate's end, whatever becomes of the rows. It is what this site cannot be made to
-- forget, by the master's rows or by its own. Nothing here may raise an error: it would
-- stop the apply worker. What a superuser writes by hand is no news
-- from the master.
create sequence ocsp_internal.site_revoked_seq cache 1;
create table ocsp_internal.site_revoked (
  issuer_id  int,
  serial     bytea,
  revoked_at timestamptz,
  reason     smallint,     -- -1: none
  not_after  timestamptz,  -- the latest that was seen
  seq        bigint default nextval('ocsp_internal.site_revoked_seq'),  -- of the last change
  primary key (issuer_id, serial, revoked_at, reason)
);
create index site_revoked_seq_idx on ocsp_internal.site_revoked (seq);
-- The issuers of these revocations: a number stands for one key while any is remembered.
create table ocsp_internal.site_issuer (
  id       int primary key,
  key_hash bytea,
  name     text
);

create function ocsp_internal.site_remember() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.certificate'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  if new.not_after > least(clock_timestamp(), (select as_of from public.feed_head)) - interval '1 d' then
    insert into ocsp_internal.site_revoked as m (issuer_id, serial, revoked_at, reason, not_after)
      values (new.issuer_id, new.serial, new.revoked_at, coalesce(new.reason, -1::int2), new.not_after)
      on conflict (issuer_id, serial, revoked_at, reason) do update set not_after = excluded.not_after, seq = excluded.seq where excluded.not_after > m.not_after;
  end if;
  return null;
end $$;

create function ocsp_internal.site_remember_issuer() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.issuer'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  insert into ocsp_internal.site_issuer as m values (new.id, new.key_hash, new.name)
    on conflict (id) do update set key_hash = excluded.key_hash, name = excluded.name
      where (m.key_hash, m.name) is distinct from (excluded.key_hash, excluded.name)
        and (m.key_hash = excluded.key_hash or not exists (select from ocsp_internal.site_revoked where issuer_id = excluded.id));
  return null;
end $$;

-- Forgets the revocations of certificates that ended a day before this clock and before
-- p_ended, and says how many. It waits for no lock, so that no apply worker deadlocks with it.
create function site_forget(p_ended timestamptz) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  gone bigint;
begin
  delete from ocsp_internal.site_revoked where ctid = any (array(select ctid from ocsp_internal.site_revoked
    where not_after < least(p_ended, clock_timestamp() - interval '1 d') for update skip locked));
  get diagnostics gone = row_count;
  if gone > 0 then  -- a number that stands for nothing more stands for the key that it has now
    update ocsp_internal.site_issuer m set key_hash = i.key_hash, name = i.name from public.issuer i
      where i.id = m.id and i.key_hash <> m.key_hash and not exists (select from ocsp_internal.site_revoked where issuer_id = i.id);
  end if;
  return gone;
end $$;

create trigger site_remember after insert or update on certificate for each row
  when (new.revoked_at is not null and new.reason is distinct from 6 and octet_length(new.serial) between 1 and 20 and current_setting('is_superuser') = 'off')
  execute function ocsp_internal.site_remember();
create trigger site_remember after insert or update on issuer for each row
  when (current_setting('is_superuser') = 'off') execute function ocsp_internal.site_remember_issuer();
alter table certificate enable always trigger site_remember;
alter table issuer enable always trigger site_remember;

-- What ocspsyncd knows and ocspd must know. Tombstones up to trimmed_to are
-- gone: a follower that is behind it reloads. skew_ms is this site's clock minus
-- the master's, measured by a round trip with the master itself; null: not known.
create table ocsp_internal.site_state (
  id            smallint primary key check (id = 1),
  trimmed_to    bigint not null,
  skew_ms       bigint,
  skew_at       timestamptz,
  -- Why the master no longer lets this site in; null: it does. Such a site may have been
  -- revoked without being told: ocspd then says neither good nor unknown.
  access_denied text
);
insert into ocsp_internal.site_state values (1, 0, null, null, null);

-- Foreign keys are checked at the master; here they would only slow the copy
-- down (apply does not fire them) and forbid its TRUNCATE order.
alter table responder_certificate drop constraint responder_certificate_issuer_id_serial_fkey;
alter table certificate drop constraint certificate_issuer_id_fkey;
-- So are the CHECKs. The apply worker would parse each of them anew for every row
-- (measured: 29 of 39 us), and the digest finds a row that is not the master's.
alter table certificate drop constraint certificate_serial_check, drop constraint certificate_not_after_check,
  drop constraint certificate_revoked_at_check, drop constraint certificate_reason_check, drop constraint certificate_check;

reset role;

-- A subscription needs a superuser to be made (PostgreSQL 15), ocspsyncd is
-- none: these functions are all it gets. The names are fixed and the
-- connection is put together from parts, so that no other option of libpq
-- (a file to read, a service) can be slipped in. The subscription's owner is
-- a superuser only inside this transaction.
create function ocsp_internal.subscription_conninfo(host text, port int, dbname text, username text, password text, sslmode text)
  returns text language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  conninfo text := '';
  part record;
begin
  -- A master that is frozen or cut off without a reset must be noticed.
  for part in select * from (values ('host', host), ('port', port::text), ('dbname', dbname), ('user', username),
      ('password', password), ('sslmode', sslmode), ('application_name', 'ocspfleet/2'), ('connect_timeout', '10'), ('keepalives_idle', '30'),
      ('keepalives_interval', '10'), ('keepalives_count', '3'), ('tcp_user_timeout', '60000')) as p(key, value) loop
    conninfo := conninfo || format('%s=''%s'' ', part.key, replace(replace(part.value, '\', '\\'), '''', '\'''));
  end loop;
  return conninfo;
end $$;

-- There are two: ocspfleet brings the rows, ocspfleet_files the signed files. Each has the
-- name of its publication, a slot and a worker of its own, so that files hold up no status.
create function ocsp_internal.subscription_check(p_name text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtext('ocspfleet subscriptions'));  -- two at once would change the role of their owner
  if p_name is null or p_name not in ('ocspfleet', 'ocspfleet_files') then
    raise exception 'subscription % is not ours', p_name;
  end if;
end $$;

create function subscription_create(p_name text, host text, port int, dbname text, username text, password text, sslmode text, slot text)
  returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  options text := '';
  setting text;
begin
  perform ocsp_internal.subscription_check(p_name);
  if slot !~ '^[a-z0-9_]{1,63}$' then
    raise exception 'slot name % is not made of a-z, 0-9 and _', slot;
  end if;
  -- From PostgreSQL 16 on the worker would become the tables' owner, which the
  -- subscription's owner is not allowed to.
  if current_setting('server_version_num')::int >= 160000 then
    options := ', run_as_owner = true';
  end if;
  -- Connects, registers the published tables as ready, copies nothing: the caller
  -- has loaded them in this same transaction from the slot's own snapshot.
  begin
    execute format('create subscription %1$I connection %2$L publication %1$I with ('
      'create_slot = false, slot_name = %3$L, copy_data = false, synchronous_commit = on, streaming = off, '
      'disable_on_error = false%4$s)', p_name, ocsp_internal.subscription_conninfo(host, port, dbname, username, password, sslmode), slot, options);
  exception when others then  -- raised anew: the context of the first holds the password, and goes into the log
    raise exception 'subscribing to the master: %', sqlerrm using errcode = sqlstate;
  end;
  -- The worker's session goes by what is set for the database, unless for its login.
  foreach setting in array array['default_transaction_read_only = off', 'default_transaction_isolation = ''read committed''', 'lock_timeout = 0'] loop
    execute format('alter role ocsp_subscriber in database %I set %s', current_database(), setting);
  end loop;
  alter role ocsp_subscriber superuser;
  execute format('alter subscription %I owner to ocsp_subscriber', p_name);
  alter role ocsp_subscriber nosuperuser login;  -- the worker logs in so; without a password no other program can
end $$;

-- The master moved, or its password was changed. The worker reconnects by itself, and only if something differs.
create function subscription_connect(p_name text, host text, port int, dbname text, username text, password text, sslmode text)
  returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.subscription_check(p_name);
  execute format('alter subscription %I connection %L', p_name, ocsp_internal.subscription_conninfo(host, port, dbname, username, password, sslmode));
exception when others then
  raise exception 'changing the connection to the master: %', sqlerrm using errcode = sqlstate;
end $$;

create function subscription_drop(p_name text) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.subscription_check(p_name);
  if exists (select from pg_subscription where subname = p_name and subdbid = (select oid from pg_database where datname = current_database())) then
    execute format('alter subscription %I disable', p_name);
    execute format('alter subscription %I set (slot_name = none)', p_name);  -- the slot is the master's to drop
    execute format('drop subscription %I', p_name);
  end if;
end $$;

create function subscription_enable(p_name text, enabled boolean) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.subscription_check(p_name);
  execute format('alter subscription %I %s', p_name, case when enabled then 'enable' else 'disable' end);
end $$;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
