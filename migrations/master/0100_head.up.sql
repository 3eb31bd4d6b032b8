-- The master's one head: every change of a replicated row is recorded by statement triggers
-- and counted into feed_head at COMMIT, in the same transaction, with its audit entry.
-- Positions are dense and in commit order without any sequencer.
set role ocsp_owner;

-- What a row is now (its canonical bytes), or that it is gone (its key, the first part of
-- the canonical bytes). State, not event. A correction comes before the change that it
-- allows.
create table ocsp_internal.change_body (
  id         bigint generated always as identity primary key,
  xid        xid8 not null default pg_current_xact_id(),
  deleted    boolean not null,
  table_name text not null check (table_name in ('certificate', 'issuer', 'responder_certificate', 'correction', 'closed_pin')),
  content    bytea not null
);
create index change_body_xid on ocsp_internal.change_body (xid);

-- One row per statement, gone at COMMIT: the deferred trigger hangs on it, so
-- that there is one event per statement and not one per row.
create table ocsp_internal.pending_change (
  id      bigint generated always as identity,
  xid     xid8 not null default pg_current_xact_id(),
  -- A replicated table; audit: an entry without a change of rows; revoked, revoked_own:
  -- revocations for the hourly limit (limit_add).
  kind    text not null check (kind in ('certificate', 'issuer', 'responder_certificate', 'correction', 'closed_pin', 'audit', 'revoked', 'revoked_own')),
  changes bigint not null,   -- of rows; revoked, revoked_own: revocations
  rows    bigint not null,   -- change of count
  digest  numeric not null,  -- change of digest, not yet mod 2^64
  urgent  boolean not null,  -- a revocation, or a row that is no certificate
  -- Changes of this transaction, with this statement: a larger one would keep all others
  -- from the head for too long, and it is refused here, before it has the head.
  total   bigint not null constraint pending_change_too_many check (total <= 300000)
);
create index pending_change_xid on ocsp_internal.pending_change (xid, id);

-- Records what one statement did.
create function ocsp_internal.pending_change_add(p_kind text, p_changes bigint, p_rows bigint, p_digest numeric, p_urgent boolean) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  insert into ocsp_internal.pending_change (kind, changes, rows, digest, urgent, total)
    select p_kind, p_changes, p_rows, p_digest, p_urgent, case when p_kind in ('revoked', 'revoked_own') then 0 else p_changes end + coalesce(
      (select total from ocsp_internal.pending_change where xid = pg_current_xact_id() order by id desc limit 1), 0);
end $$;

create table ocsp_internal.change_tx (
  first  bigint not null,
  last   bigint primary key,
  xid    xid8 not null,
  at     timestamptz not null,
  urgent boolean not null  -- it is sealed at once, not gathered with others
);
create index change_tx_xid on ocsp_internal.change_tx (xid);

-- All changes in commit order. A transaction that takes the head in several
-- pieces (SET CONSTRAINTS ALL IMMEDIATE) keeps it until it ends: still one block.
create view ocsp_internal.change as
  select t.first - 1 + row_number() over (partition by b.xid order by b.id) as position, b.xid, b.deleted, b.table_name, b.content
  from (select xid, min(first) as first from ocsp_internal.change_tx group by xid) t join ocsp_internal.change_body b using (xid);

-- The last confirmation of the clock by the master's ocspsyncd: as_of never runs
-- more than 15 s (three heartbeats) ahead of it.
create table ocsp_internal.heartbeat (
  id           smallint primary key check (id = 1),
  confirmed_at timestamptz not null
);

-- The audit: what was done, when, why and by which login; chained at COMMIT under the
-- head's lock.
create table ocsp_internal.audit (
  id       bigint generated always as identity primary key,
  xid      xid8 not null default pg_current_xact_id(),
  n        bigint unique,         -- place in the chain, dense from 1; null until COMMIT
  at       timestamptz not null default clock_timestamp(),
  db_role  text not null default session_user,
  os_user  text not null constraint audit_os_user_long check (octet_length(os_user) <= 1024),
  act      text not null constraint audit_act_long check (octet_length(act) <= 100),
  what     jsonb not null constraint audit_what_form check (jsonb_typeof(what) = 'object')
                          constraint audit_what_long check (octet_length(what::text) <= 16384)
                          constraint audit_crl_number check (coalesce(what ->> 'crl_number' ~ '^[0-9]{1,49}$', true)),
  why      text not null constraint audit_why_long check (octet_length(why) <= 1024),
  position bigint,                -- head position at COMMIT
  hash     bytea                  -- SHA-256(hash before || audit_canonical)
);
create index audit_xid on ocsp_internal.audit (xid);
create index audit_crl on ocsp_internal.audit (((what ->> 'issuer')::int)) where act = 'cert import' and what ? 'crl_number';

create function ocsp_internal.audit_canonical(a ocsp_internal.audit) returns bytea language sql stable
  return int8send(a.n) || timestamptz_send(a.at) || ocsp_internal.length_prefixed(convert_to(a.db_role, 'UTF8')) || ocsp_internal.length_prefixed(convert_to(a.os_user, 'UTF8'))
         || ocsp_internal.length_prefixed(convert_to(a.act, 'UTF8')) || ocsp_internal.length_prefixed(convert_to(a.what::text, 'UTF8')) || ocsp_internal.length_prefixed(convert_to(a.why, 'UTF8')) || int8send(a.position);

create function ocsp_internal.refuse_isolation() returns void language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a writer of certificate status must be READ COMMITTED, this transaction is %', upper(current_setting('transaction_isolation'))
      using errcode = 'feature_not_supported',
            hint = 'Begin with BEGIN ISOLATION LEVEL READ COMMITTED: every commit and every heartbeat moves the one head, so a snapshot taken earlier can never be written from.';
  end if;
end $$;

-- The same three statement triggers for each replicated table. Transition tables
-- are never joined with each other (EXCEPT): a plan cached for one row takes
-- seconds for ten thousand. They send no NOTIFY: any login can fill the queue of
-- notifications, and then every COMMIT with one fails, a revocation's too. urgent is the
-- condition on a row n that is inserted or changed, urgent_deleted that on a deleted one, b:
-- a certificate that one statement deletes and inserts again is urgent, whatever it is now.
do $do$
declare
  t record;
begin
  for t in select * from (values
      ('certificate', 'ocsp_internal.certificate_canonical(%1$s.issuer_id, %1$s.serial, %1$s.not_after, %1$s.revoked_at, %1$s.reason)',
       'int4send(o.issuer_id) || int2send(octet_length(o.serial)::int2) || o.serial', 'issuer_id, serial', 'n.revoked_at is not null', 'not b.deleted'),
      ('issuer', 'ocsp_internal.issuer_canonical(row(%1$s.*)::public.issuer)', 'int4send(o.id)', 'id', 'true', 'true'),
      ('responder_certificate', 'ocsp_internal.responder_certificate_canonical(row(%1$s.*)::public.responder_certificate)',
       'o.fingerprint', 'fingerprint', 'true', 'true'),
      ('correction', 'ocsp_internal.correction_canonical(%1$s.issuer_id, %1$s.serial, %1$s.revoked_at, %1$s.corrected_at, %1$s.note)',
       'ocsp_internal.correction_canonical(o.issuer_id, o.serial, o.revoked_at, o.corrected_at, o.note)', 'issuer_id, serial, revoked_at, corrected_at, note', 'true', 'true'),
      ('closed_pin', '%1$s.pin', 'o.pin', 'pin', 'true', 'true')
    ) as v(name, canonical, key, pk, urgent, urgent_deleted) loop
    execute format($f$
      create function ocsp_internal.%1$s_inserted() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
      declare
        done text;
      begin
        if tg_relid <> 'public.%1$s'::regclass then
          perform ocsp_internal.refuse_table(tg_relid);
        end if;
        perform ocsp_internal.refuse_isolation();
        with b as (
          insert into ocsp_internal.change_body (deleted, table_name, content) select false, %1$L, %2$s from newt n returning content)
        select ocsp_internal.pending_change_add(%1$L, count(*), count(*), sum(ocsp_internal.row_digest(content)), (select bool_or(%6$s) from newt n))
          into done from b having count(*) > 0;
        return null;
      end $$;
      create function ocsp_internal.%1$s_updated() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
      declare
        done text;
      begin
        if tg_relid <> 'public.%1$s'::regclass then
          perform ocsp_internal.refuse_table(tg_relid);
        end if;
        perform ocsp_internal.refuse_isolation();
        with n as materialized (select * from newt except select * from oldt),
        b as (
          insert into ocsp_internal.change_body (deleted, table_name, content) select false, %1$L, %2$s from n returning content),
        o as (select sum(ocsp_internal.row_digest(%3$s)) as digest from (select * from oldt except select * from newt) o)
        select ocsp_internal.pending_change_add(%1$L, count(*), 0, sum(ocsp_internal.row_digest(content)) - (select digest from o), (select bool_or(%6$s) from n))
          into done from b having count(*) > 0;
        return null;
      end $$;
      create function ocsp_internal.%1$s_deleted() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
      declare
        done text;
      begin
        if tg_relid <> 'public.%1$s'::regclass then
          perform ocsp_internal.refuse_table(tg_relid);
        end if;
        perform ocsp_internal.refuse_isolation();
        -- One statement may delete a row and insert it again: what it is now counts.
        with b as (
          insert into ocsp_internal.change_body (deleted, table_name, content)
            select n is null, %1$L, case when n is null then %4$s else %2$s end
            from oldt o left join public.%1$s n using (%5$s) returning deleted)
        select ocsp_internal.pending_change_add(%1$L, count(*), -count(*), -sum(ocsp_internal.row_digest(%3$s)), (select bool_or(%7$s) from b))
          into done from oldt o having count(*) > 0;
        return null;
      end $$;
      create trigger inserted after insert on public.%1$s referencing new table as newt
        for each statement execute function ocsp_internal.%1$s_inserted();
      create trigger updated after update on public.%1$s referencing old table as oldt new table as newt
        for each statement execute function ocsp_internal.%1$s_updated();
      create trigger deleted after delete on public.%1$s referencing old table as oldt
        for each statement execute function ocsp_internal.%1$s_deleted();
    $f$, t.name, format(t.canonical, 'n'), format(t.canonical, 'o'), t.key, t.pk, t.urgent, t.urgent_deleted);
  end loop;
end $do$;

create function ocsp_internal.audit_append(p_act text, p_what jsonb, p_why text, p_os_user text) returns void
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into ocsp_internal.audit (os_user, act, what, why) values (p_os_user, p_act, p_what, p_why);
$$;

create function ocsp_internal.audit_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then  -- an entry cannot be placed into the chain or into another's transaction by hand
    if new.n is not null or new.xid <> pg_current_xact_id() then
      raise exception 'an audit entry takes its place in the chain at COMMIT' using errcode = 'integrity_constraint_violation';
    end if;
    return new;
  end if;
  if tg_op = 'DELETE' or old.n is not null then
    raise exception 'audit entry % is written for ever', coalesce(old.n::text, 'of this transaction') using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;
create trigger guard before insert or update or delete on ocsp_internal.audit for each row execute function ocsp_internal.audit_guard();

create function ocsp_internal.audit_inserted() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'ocsp_internal.audit'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  perform ocsp_internal.refuse_isolation();
  if (select count(*) from (select from ocsp_internal.audit where xid = pg_current_xact_id() and n is null limit 1001) e) > 1000 then
    raise exception 'a transaction writes at most 1000 audit entries' using errcode = 'program_limit_exceeded',
      hint = 'Commit after each call, or hand many certificates to certificate_import at once.';
  end if;
  perform ocsp_internal.pending_change_add('audit', 0, 0, 0, false);
  return null;
end $$;
create trigger inserted after insert on ocsp_internal.audit for each statement execute function ocsp_internal.audit_inserted();

-- Whether this transaction only tries what it does, and is rolled back: the client said so.
create function ocsp_internal.trying() returns boolean language sql stable return coalesce(current_setting('ocsp.trying', true), '') = 'on';

-- Called first by each function whose effects reach beyond the transaction: rolled back,
-- they would be real nevertheless.
create function ocsp_internal.refuse_trying(p_what text) returns void language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if ocsp_internal.trying() then
    raise exception '% cannot be tried: what it does is not rolled back', p_what using errcode = 'feature_not_supported',
      hint = 'A plan shows what its read-only twin says.';
  end if;
end $$;

-- At COMMIT, once per transaction that recorded anything: lock the head, count,
-- give positions, chain the audit. The head is the last lock of a transaction
-- (z_): no other deferred trigger may write after it.
create function ocsp_internal.head_advance() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  me constant xid8 := pg_current_xact_id();
  h public.feed_head;
  s record;
  a ocsp_internal.audit;
  limit_at timestamptz;
  now_at timestamptz;
begin
  if tg_relid <> 'ocsp_internal.pending_change'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  if not exists (select from ocsp_internal.pending_change where xid = me) then
    return null;  -- an earlier event of this transaction did the work
  end if;
  if not exists (select from ocsp_internal.audit where xid = me) then
    insert into ocsp_internal.audit (os_user, act, what, why) values ('', 'direct', '{}', 'rows changed by SQL, outside the functions');
  end if;
  select * into h from public.feed_head for no key update;
  if not found then
    raise exception 'this master has no head' using hint = 'Run ocspctl db init.', errcode = 'object_not_in_prerequisite_state';
  end if;
  with gone as (delete from ocsp_internal.pending_change where xid = me returning *)
  select coalesce(sum(changes) filter (where kind not in ('revoked', 'revoked_own')), 0) as changes, coalesce(bool_or(urgent), false) as urgent,
         coalesce(sum(changes) filter (where kind = 'revoked'), 0) as revoked, coalesce(sum(changes) filter (where kind = 'revoked_own'), 0) as revoked_own,
         coalesce(sum(rows) filter (where kind = 'certificate'), 0) as certificate_rows, coalesce(sum(digest) filter (where kind = 'certificate'), 0) as certificate_digest,
         coalesce(sum(rows) filter (where kind = 'issuer'), 0) as issuer_rows, coalesce(sum(digest) filter (where kind = 'issuer'), 0) as issuer_digest,
         coalesce(sum(rows) filter (where kind = 'responder_certificate'), 0) as responder_certificate_rows, coalesce(sum(digest) filter (where kind = 'responder_certificate'), 0) as responder_certificate_digest,
         coalesce(sum(rows) filter (where kind = 'correction'), 0) as correction_rows, coalesce(sum(digest) filter (where kind = 'correction'), 0) as correction_digest,
         coalesce(sum(rows) filter (where kind = 'closed_pin'), 0) as closed_pin_rows, coalesce(sum(digest) filter (where kind = 'closed_pin'), 0) as closed_pin_digest
    into s from gone;
  if s.changes > 1000 and ocsp_internal.trying() then
    raise exception 'a plan of % rows would keep every other writer waiting: 1,000 at most are tried', s.changes using errcode = 'program_limit_exceeded';
  end if;
  if s.revoked + s.revoked_own > 0 then
    perform ocsp_internal.limit_take(s.revoked::bigint, s.revoked_own::bigint);
  end if;
  if s.changes > 0 then
    insert into ocsp_internal.change_tx (first, last, xid, at, urgent) values (h.position + 1, h.position + s.changes, me, clock_timestamp(), s.urgent);
    h.position := h.position + s.changes;
  end if;
  for a in select * from ocsp_internal.audit where xid = me and n is null order by id loop
    a.n := h.audit_count + 1;
    a.position := h.position;
    a.hash := sha256(h.audit_hash || ocsp_internal.audit_canonical(a));
    update ocsp_internal.audit set n = a.n, position = a.position, hash = a.hash where id = a.id;
    h.audit_count := a.n;
    h.audit_hash := a.hash;
  end loop;
  select confirmed_at + interval '15 s' into limit_at from ocsp_internal.heartbeat;
  now_at := clock_timestamp();
  update public.feed_head set
    position = h.position,
    as_of = greatest(h.as_of, least(now_at, coalesce(limit_at, now_at))),
    certificate_count = h.certificate_count + s.certificate_rows,
    certificate_digest = ocsp_internal.mod64(h.certificate_digest + s.certificate_digest),
    issuer_count = h.issuer_count + s.issuer_rows,
    issuer_digest = ocsp_internal.mod64(h.issuer_digest + s.issuer_digest),
    responder_certificate_count = h.responder_certificate_count + s.responder_certificate_rows,
    responder_certificate_digest = ocsp_internal.mod64(h.responder_certificate_digest + s.responder_certificate_digest),
    correction_count = h.correction_count + s.correction_rows,
    correction_digest = ocsp_internal.mod64(h.correction_digest + s.correction_digest),
    closed_pin_count = h.closed_pin_count + s.closed_pin_rows,
    closed_pin_digest = ocsp_internal.mod64(h.closed_pin_digest + s.closed_pin_digest),
    audit_count = h.audit_count,
    audit_hash = h.audit_hash;
  return null;
end $$;
create constraint trigger z_head after insert on ocsp_internal.pending_change deferrable initially deferred
  for each row execute function ocsp_internal.head_advance();

create function ocsp_internal.refuse_truncate() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'TRUNCATE of % is refused: it would pass the head by', tg_table_name using errcode = 'integrity_constraint_violation';
end $$;
create trigger no_truncate before truncate on issuer for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on certificate for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on responder_certificate for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on correction for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on closed_pin for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on feed_head for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on ocsp_internal.change_body for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on ocsp_internal.change_tx for each statement execute function ocsp_internal.refuse_truncate();
create trigger no_truncate before truncate on ocsp_internal.audit for each statement execute function ocsp_internal.refuse_truncate();

-- The epoch names this history: a master set up anew never continues an old one.
create function ocsp_internal.head_init(p_epoch bigint) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.feed_head) then
    raise exception 'this master has a head already' using errcode = 'object_not_in_prerequisite_state';
  end if;
  insert into public.feed_head values (1, p_epoch, 0, date_trunc('milliseconds', clock_timestamp()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null, 0, sha256(''));
end $$;

-- A new history: for a master that was brought up from a backup, once all that
-- the sites know was entered again. The rows stay. p_recounted: tables whose rows were not
-- those that the head counted.
create function ocsp_internal.epoch_new(p_epoch bigint, p_recounted text[], p_why text, p_os_user text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  before bigint;
begin
  select epoch into before from public.feed_head for no key update;
  if before >= p_epoch then
    raise exception 'epoch % is not later than this master''s own (%)', p_epoch, before using errcode = 'check_violation';
  end if;
  update public.feed_head set epoch = p_epoch;
  perform ocsp_internal.audit_append('db epoch', jsonb_build_object('epoch', p_epoch, 'before', before, 'recounted', p_recounted), p_why, p_os_user);
end $$;

-- The master's clock is confirmed: p_elapsed is the caller's monotonic time since
-- its last call (null, or over a day: as its first call). The clock may run ahead of
-- that by 10 s at most; capped says that it did. as_of never goes back.
create function heartbeat(p_elapsed interval) returns table (as_of timestamptz, capped boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
  seen timestamptz;
  limit_at timestamptz;
  now_at timestamptz;
begin
  if p_elapsed < interval '0' then
    raise exception 'time does not run backwards (elapsed %)', p_elapsed using errcode = 'check_violation';
  elsif p_elapsed > interval '1 day' then
    p_elapsed := null;
  end if;
  perform from public.feed_head for no key update;  -- the head's lock is the heartbeat's, too
  now_at := clock_timestamp();
  select confirmed_at + p_elapsed + interval '10 s' into limit_at from ocsp_internal.heartbeat;
  capped := coalesce(now_at > limit_at, false);
  seen := least(now_at, coalesce(limit_at, now_at));
  -- Never lowered, and time passes: when a clock that was set back is right again, the next
  -- heartbeat knows it.
  insert into ocsp_internal.heartbeat values (1, seen) on conflict (id) do update
    set confirmed_at = greatest(ocsp_internal.heartbeat.confirmed_at + coalesce(p_elapsed, interval '0'), excluded.confirmed_at);
  update public.feed_head h set as_of = greatest(h.as_of, seen) returning h.as_of into as_of;
  if not found then
    raise exception 'this master has no head' using hint = 'Run ocspctl db init.', errcode = 'object_not_in_prerequisite_state';
  end if;
  return next;
end $$;

reset role;

-- Memberships belong to the whole cluster: a migration of another database may
-- grant them at this moment.
do $$
begin
  grant pg_read_all_stats to ocsp_owner;  -- for replicas_wrote
exception when unique_violation or internal_error then null;  -- internal_error: tuple concurrently updated
end $$;
do $$
begin
  grant pg_read_all_stats to ocsp_publisher;  -- to name the session that blocks the head
exception when unique_violation or internal_error then null;
end $$;

-- The columns are named: a site must never be sent what the master adds for itself.
create publication ocspfleet for table
  issuer (id, key_hash, name, certificate, validity, backdate, max_staleness, fresh_for_unknown, http_max_age, never_issued, profile, crl_url, policy_version, crl, refresh, archive_cutoff),
  certificate (issuer_id, serial, not_after, revoked_at, reason),
  responder_certificate (fingerprint, issuer_id, serial, site, key_hash, der),
  correction (issuer_id, serial, revoked_at, corrected_at, note),
  closed_pin (pin),
  feed_head (id, epoch, position, as_of, certificate_count, certificate_digest, issuer_count, issuer_digest,
             responder_certificate_count, responder_certificate_digest, correction_count, correction_digest, closed_pin_count, closed_pin_digest,
             purge_before, audit_count, audit_hash)
  with (publish = 'insert, update, delete');

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
