-- The master: every change of a replicated row is noted by statement triggers
-- and counted into feed_head at COMMIT, in the same transaction. Positions are
-- dense and in commit order without any sequencer.
set role ocsp_owner;

-- What the row is now (op U: canonical bytes) or that it is gone (op D: its key,
-- the first part of the canonical bytes). State, not event. Op C is a correction:
-- it comes before the change that it allows.
create table ocsp_internal.change_body (
  id      bigint generated always as identity primary key,
  xid     xid8 not null default pg_current_xact_id(),
  op      "char" not null check (op in ('U', 'D', 'C')),
  tbl     "char" not null check (tbl in ('c', 'i', 'r', 'k', 'p')),  -- certificate, issuer, responder_certificate, correction, closed_pin
  content bytea not null
);
create index change_body_xid on ocsp_internal.change_body (xid);

-- One row per statement, gone at COMMIT: the deferred trigger hangs on it, so
-- that there is one event per statement and not one per row.
create table ocsp_internal.change_note (
  id     bigint generated always as identity,
  xid    xid8 not null default pg_current_xact_id(),
  tbl    "char" not null check (tbl in ('c', 'i', 'r', 'k', 'p', 'a', 'l', 'o')),  -- a: audit alone, l, o: revocations (limit_note)
  n      bigint not null,   -- changes noted; l, o: revocations
  rows   bigint not null,   -- change of count
  digest numeric not null,  -- change of digest, not yet mod 2^64
  -- Of this transaction, with this statement: one that is larger would keep everybody
  -- from the head for too long, and it is refused here, before it has the head.
  total  bigint not null constraint change_note_too_many check (total <= 300000)
);
create index change_note_xid on ocsp_internal.change_note (xid, id);

-- Notes what one statement did.
create function ocsp_internal.change_noted(p_tbl "char", p_n bigint, p_rows bigint, p_digest numeric) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  insert into ocsp_internal.change_note (tbl, n, rows, digest, total)
    select p_tbl, p_n, p_rows, p_digest, case when p_tbl in ('l', 'o') then 0 else p_n end + coalesce(
      (select total from ocsp_internal.change_note where xid = pg_current_xact_id() order by id desc limit 1), 0);
end $$;

create table ocsp_internal.change_tx (
  first bigint not null,
  last  bigint primary key,
  xid   xid8 not null,
  at    timestamptz not null
);
create index change_tx_xid on ocsp_internal.change_tx (xid);

-- All changes in commit order. A transaction that takes the head in several
-- pieces (SET CONSTRAINTS ALL IMMEDIATE) keeps it until it ends: still one block.
create view ocsp_internal.change as
  select t.first - 1 + row_number() over (partition by b.xid order by b.id) as position, b.xid, b.op, b.tbl, b.content
  from (select xid, min(first) as first from ocsp_internal.change_tx group by xid) t join ocsp_internal.change_body b using (xid);

-- The last confirmation of the clock by the master's ocspsyncd: as_of never runs
-- more than 15 s (three heartbeats) ahead of it.
create table ocsp_internal.heartbeat (
  id           smallint primary key check (id = 1),
  confirmed_at timestamptz not null
);

-- Who did what, when and why; chained at COMMIT under the head's lock.
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
  return int8send(a.n) || timestamptz_send(a.at) || ocsp_internal.lp(convert_to(a.db_role, 'UTF8')) || ocsp_internal.lp(convert_to(a.os_user, 'UTF8'))
         || ocsp_internal.lp(convert_to(a.act, 'UTF8')) || ocsp_internal.lp(convert_to(a.what::text, 'UTF8')) || ocsp_internal.lp(convert_to(a.why, 'UTF8')) || int8send(a.position);

-- The staff's roster of sites, not replicated.
create table ocsp_internal.responder (
  name         text primary key check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  url          text not null constraint responder_url_long check (octet_length(url) <= 1024),
  addresses    text[] not null default '{}' constraint responder_addresses_long check (octet_length(addresses::text) <= 1024),
  state        text not null default 'active' check (state in ('active', 'suspended', 'revoked', 'left')),
  feed_key_pin bytea,
  created_at   timestamptz not null default clock_timestamp()
);

-- A key once enrolled belongs to one site, and a compromised one to none, for ever.
create table ocsp_internal.responder_key (
  key_hash bytea primary key check (octet_length(key_hash) = 32),  -- SHA-256(SPKI DER)
  site     text not null references ocsp_internal.responder,
  banned   boolean not null default false
);

-- ---------------------------------------------------------------- triggers

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
-- seconds for ten thousand. They notify nobody: any login can fill the queue of
-- notifications, and then every COMMIT with one fails, a revocation's too.
do $do$
declare
  t record;
begin
  for t in select * from (values
      ('certificate', 'c', 'ocsp_internal.certificate_canonical(%1$s.issuer_id, %1$s.serial, %1$s.not_after, %1$s.revoked_at, %1$s.reason)',
       'int4send(o.issuer_id) || int2send(octet_length(o.serial)::int2) || o.serial', 'issuer_id, serial', 'U'),
      ('issuer', 'i', 'ocsp_internal.issuer_canonical(row(%1$s.*)::public.issuer)', 'int4send(o.id)', 'id', 'U'),
      ('responder_certificate', 'r', 'ocsp_internal.responder_certificate_canonical(row(%1$s.*)::public.responder_certificate)',
       'o.fingerprint', 'fingerprint', 'U'),
      ('correction', 'k', 'ocsp_internal.correction_canonical(%1$s.issuer_id, %1$s.serial, %1$s.revoked_at, %1$s.corrected_at, %1$s.note)',
       'ocsp_internal.correction_canonical(o.issuer_id, o.serial, o.revoked_at, o.corrected_at, o.note)', 'issuer_id, serial, revoked_at, corrected_at, note', 'C'),
      ('closed_pin', 'p', '%1$s.pin', 'o.pin', 'pin', 'U')
    ) as v(name, tbl, canonical, key, pk, op) loop
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
          insert into ocsp_internal.change_body (op, tbl, content) select %7$L, %2$L, %3$s from newt n returning content)
        select ocsp_internal.change_noted(%2$L, count(*), count(*), sum(ocsp_internal.row_digest(content))) into done from b having count(*) > 0;
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
        with b as (
          insert into ocsp_internal.change_body (op, tbl, content)
            select 'U', %2$L, %3$s from (select * from newt except select * from oldt) n returning content),
        o as (select sum(ocsp_internal.row_digest(%4$s)) as digest from (select * from oldt except select * from newt) o)
        select ocsp_internal.change_noted(%2$L, count(*), 0, sum(ocsp_internal.row_digest(content)) - (select digest from o)) into done from b having count(*) > 0;
        return null;
      end $$;
      create function ocsp_internal.%1$s_deleted() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
      begin
        if tg_relid <> 'public.%1$s'::regclass then
          perform ocsp_internal.refuse_table(tg_relid);
        end if;
        perform ocsp_internal.refuse_isolation();
        -- One statement may delete a row and insert it again: what it is now counts.
        insert into ocsp_internal.change_body (op, tbl, content)
          select case when n is null then 'D' else 'U' end::"char", %2$L, case when n is null then %5$s else %3$s end
          from oldt o left join public.%1$s n using (%6$s);
        perform ocsp_internal.change_noted(%2$L, count(*), -count(*), -sum(ocsp_internal.row_digest(%4$s))) from oldt o having count(*) > 0;
        return null;
      end $$;
      create trigger inserted after insert on public.%1$s referencing new table as newt
        for each statement execute function ocsp_internal.%1$s_inserted();
      create trigger updated after update on public.%1$s referencing old table as oldt new table as newt
        for each statement execute function ocsp_internal.%1$s_updated();
      create trigger deleted after delete on public.%1$s referencing old table as oldt
        for each statement execute function ocsp_internal.%1$s_deleted();
    $f$, t.name, t.tbl, format(t.canonical, 'n'), format(t.canonical, 'o'), t.key, t.pk, t.op);
  end loop;
end $do$;

-- Which transaction made a correction: only that one may change the certificate.
-- It is the master's own; the publication names its columns.
alter table correction add column xid xid8 not null default pg_current_xact_id();

-- Whether this very transaction, by two persons' word, corrects a permanent revocation.
create function ocsp_internal.corrected_now(p_issuer int, p_serial bytea, p_revoked_at timestamptz) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  return exists (select from public.correction k where (k.issuer_id, k.serial, k.revoked_at, k.xid) = (p_issuer, p_serial, p_revoked_at, pg_current_xact_id()))
    and exists (select from ocsp_internal.approval a where a.xid = pg_current_xact_id() and a.act = 'cert correct');
end $$;

-- Two clocks of the fleet may differ by so much (db.MaxClockSkew).
create function ocsp_internal.max_clock_skew() returns interval language sql immutable parallel safe return interval '5 min';

alter table certificate add constraint certificate_ends_too_late check (not_after < '10000-01-01 00:00Z');

-- Profile br knows no hold (BR section 4.9.13), whoever writes the row.
create function ocsp_internal.knows_hold(p_issuer int) returns boolean language sql stable
  return (select profile <> 'br' from public.issuer where id = p_issuer);

create function ocsp_internal.certificate_hold_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if not ocsp_internal.knows_hold(new.issuer_id) then
    raise exception 'issuer % has profile br, which forbids certificateHold (BR section 4.9.13): certificate %', new.issuer_id, encode(new.serial, 'hex')
      using errcode = 'check_violation';
  end if;
  return new;
end $$;
create trigger hold before insert or update on certificate for each row when (new.reason = 6) execute function ocsp_internal.certificate_hold_guard();

-- A permanent revocation never becomes good or absent before not_after, keeps its time,
-- and its reason becomes keyCompromise at most; an end never moves back. Except that it
-- is corrected in this very transaction (approval_give).
create function ocsp_internal.certificate_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  permanent constant boolean := ocsp_internal.is_permanent(old.revoked_at, old.reason);
begin
  if tg_op = 'DELETE' then
    if permanent and old.not_after > clock_timestamp() - interval '2 d' and not ocsp_internal.corrected_now(old.issuer_id, old.serial, old.revoked_at) then
      raise exception 'certificate % of issuer % is revoked for ever: it cannot be deleted before %, two days after it expires',
        encode(old.serial, 'hex'), old.issuer_id, old.not_after + interval '2 d' using errcode = 'integrity_constraint_violation';
    end if;
    return old;
  end if;
  if (old.issuer_id, old.serial) is distinct from (new.issuer_id, new.serial) then
    raise exception 'the key of a certificate (%, %) cannot be changed', old.issuer_id, encode(old.serial, 'hex')
      using errcode = 'integrity_constraint_violation', hint = 'Issue the other serial as a certificate of its own.';
  end if;
  if permanent and not ocsp_internal.is_permanent(new.revoked_at, new.reason)
     and not (new.revoked_at is null and ocsp_internal.corrected_now(old.issuer_id, old.serial, old.revoked_at)) then
    raise exception 'certificate % of issuer % is revoked for ever (since %): it cannot become good or be put on hold',
      encode(old.serial, 'hex'), old.issuer_id, old.revoked_at using errcode = 'integrity_constraint_violation';
  end if;
  if permanent and ocsp_internal.is_permanent(new.revoked_at, new.reason) and (new.revoked_at <> old.revoked_at or new.reason is distinct from old.reason and new.reason is distinct from 1) then
    raise exception 'certificate % of issuer % is revoked for ever (since %): its time stays, and its reason, which only keyCompromise replaces',
      encode(old.serial, 'hex'), old.issuer_id, old.revoked_at using errcode = 'integrity_constraint_violation';
  end if;
  if new.not_after < old.not_after and not exists (
      select from ocsp_internal.approval a where a.xid = pg_current_xact_id() and a.what->>'wrong' = 'not_after'
        and (a.what->>'issuer')::int = old.issuer_id and (a.what->>'not_after')::timestamptz = new.not_after
        and a.what->'certificates' @> jsonb_build_array(jsonb_build_object('serial', encode(old.serial, 'hex')))
        and (not permanent or ocsp_internal.corrected_now(old.issuer_id, old.serial, old.revoked_at))) then
    raise exception 'certificate % of issuer % expires at %: its end cannot be moved back to %',
      encode(old.serial, 'hex'), old.issuer_id, old.not_after, new.not_after using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;
create trigger guard before update or delete on certificate for each row execute function ocsp_internal.certificate_guard();

-- A revocation that was taken back never comes again: sites would refuse it. Whoever
-- revokes the certificate anew, for that very second, does so for the next free one.
create function ocsp_internal.revocation_time() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' and new.revoked_at is not distinct from old.revoked_at then
    return new;  -- by a clock that is behind now, what was true is in the future: it can be held, raised and ended
  elsif new.revoked_at > clock_timestamp() + ocsp_internal.max_clock_skew() then
    raise exception 'the revocation lies in the future' using errcode = 'check_violation',
      hint = '5 minutes by the master''s clock are the most that is taken; leave the time out for now.';
  end if;
  while exists (select from public.correction k where (k.issuer_id, k.serial, k.revoked_at) = (new.issuer_id, new.serial, new.revoked_at)) loop
    new.revoked_at := new.revoked_at + interval '1 s';
  end loop;
  return new;
end $$;
create trigger revocation_time before insert or update on certificate for each row when (new.revoked_at is not null)
  execute function ocsp_internal.revocation_time();

-- A certificate that may be corrected, locked; others are refused. A site's own
-- may not be: its key was banned with it, and a new one costs one command.
create function ocsp_internal.correctable_row(p_issuer int, p_serial bytea) returns public.certificate language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  c public.certificate;
begin
  if (select profile = 'br' from public.issuer where id = p_issuer) then
    raise exception 'issuer % has profile br: a revocation is never taken back (BR section 4.9.1), and nothing else is corrected', p_issuer
      using errcode = 'check_violation';
  end if;
  select * into c from public.certificate where issuer_id = p_issuer and serial = p_serial for no key update;
  if not found then
    raise exception 'serial % of issuer % was never issued', encode(p_serial, 'hex'), p_issuer using errcode = 'no_data_found';
  end if;
  if exists (select from public.responder_certificate r where r.issuer_id = p_issuer and r.serial = p_serial) then
    raise exception 'certificate % is a site''s own: it is never corrected', encode(p_serial, 'hex')
      using errcode = 'check_violation', hint = 'Enrol the site anew, with a new key: ocspctl responder add.';
  end if;
  return c;
end $$;

-- When a certificate was revoked whose revocation may be taken back.
create function ocsp_internal.correctable(p_issuer int, p_serial bytea) returns timestamptz language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  c constant public.certificate := ocsp_internal.correctable_row(p_issuer, p_serial);
begin
  if not ocsp_internal.is_permanent(c.revoked_at, c.reason) then
    raise exception 'certificate % of issuer % is not revoked for ever: there is nothing to correct', encode(p_serial, 'hex'), p_issuer
      using errcode = 'check_violation', hint = 'ocspctl cert show says what it is; a hold ends with ocspctl cert release.';
  end if;
  return c.revoked_at;
end $$;

create function ocsp_internal.correction_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op <> 'INSERT' then
    raise exception 'a correction is written for ever' using errcode = 'integrity_constraint_violation';
  end if;
  if new.xid <> pg_current_xact_id() then
    raise exception 'a correction belongs to the transaction that makes it' using errcode = 'integrity_constraint_violation';
  end if;
  if exists (select from public.correction k where (k.issuer_id, k.serial, k.revoked_at) = (new.issuer_id, new.serial, new.revoked_at)) then
    return new;  -- signed anew (correction_resign): it takes nothing back here
  elsif ocsp_internal.correctable(new.issuer_id, new.serial) <> new.revoked_at then
    raise exception 'certificate % of issuer % was revoked at another time than %', encode(new.serial, 'hex'), new.issuer_id, new.revoked_at
      using errcode = 'check_violation', hint = 'It was revoked again meanwhile: look at it, and request the correction anew.';
  end if;
  return new;
end $$;
create trigger guard before insert or update or delete on correction for each row execute function ocsp_internal.correction_guard();

create function ocsp_internal.refuse_key_update() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_table_name = 'responder_certificate' then  -- first: it has not the columns of the other
    raise exception 'a responder certificate is never changed: add the new one' using errcode = 'integrity_constraint_violation';
  elsif (new.id, new.key_hash) is distinct from (old.id, old.key_hash) then
    raise exception 'the key of issuer % cannot be changed', old.name using errcode = 'integrity_constraint_violation';
  elsif new.crl_url <> old.crl_url and not exists (
      select from ocsp_internal.approval a where a.xid = pg_current_xact_id() and a.act = 'issuer crl_url'
        and (a.what->>'issuer')::int = old.id and a.what->>'crl_url' = new.crl_url) then
    raise exception 'the crl_url of issuer % is changed by two persons alone', old.name using errcode = 'integrity_constraint_violation',
      hint = format('ocspctl issuer set %s --crl-url URL --why TEXT --apply files the request; another operator approves it.', old.name);
  end if;
  return new;
end $$;
create trigger guard before update on issuer for each row execute function ocsp_internal.refuse_key_update();
create trigger guard before update on responder_certificate for each row execute function ocsp_internal.refuse_key_update();

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

create function ocsp_internal.audit_noted() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'ocsp_internal.audit'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  perform ocsp_internal.refuse_isolation();
  if (select count(*) from (select from ocsp_internal.audit where xid = pg_current_xact_id() and n is null limit 1001) e) > 1000 then
    raise exception 'a transaction writes at most 1000 audit entries' using errcode = 'program_limit_exceeded',
      hint = 'Commit after each call, or hand many certificates to certificate_import at once.';
  end if;
  perform ocsp_internal.change_noted('a', 0, 0, 0);
  return null;
end $$;
create trigger noted after insert on ocsp_internal.audit for each statement execute function ocsp_internal.audit_noted();

-- Whether this transaction is one that db.Store.Try rolls back.
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

-- At COMMIT, once per transaction that noted anything: take the head, count,
-- give positions, chain the audit. The head is the last lock of a transaction
-- (z_): no other deferred trigger may write after it.
create function ocsp_internal.head_take() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  me constant xid8 := pg_current_xact_id();
  h public.feed_head;
  s record;
  a ocsp_internal.audit;
  limit_at timestamptz;
  now_at timestamptz;
begin
  if tg_relid <> 'ocsp_internal.change_note'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  if not exists (select from ocsp_internal.change_note where xid = me) then
    return null;  -- an earlier event of this transaction did the work
  end if;
  if not exists (select from ocsp_internal.audit where xid = me) then
    insert into ocsp_internal.audit (os_user, act, what, why) values ('', 'direct', '{}', 'rows changed by SQL, outside the functions');
  end if;
  select * into h from public.feed_head for no key update;
  if not found then
    raise exception 'this master has no head' using hint = 'Run ocspctl db init.', errcode = 'object_not_in_prerequisite_state';
  end if;
  with gone as (delete from ocsp_internal.change_note where xid = me returning *)
  select coalesce(sum(n) filter (where tbl not in ('l', 'o')), 0) as n,
         coalesce(sum(n) filter (where tbl = 'l'), 0) as revocations, coalesce(sum(n) filter (where tbl = 'o'), 0) as own,
         coalesce(sum(rows) filter (where tbl = 'c'), 0) as c_rows, coalesce(sum(digest) filter (where tbl = 'c'), 0) as c_digest,
         coalesce(sum(rows) filter (where tbl = 'i'), 0) as i_rows, coalesce(sum(digest) filter (where tbl = 'i'), 0) as i_digest,
         coalesce(sum(rows) filter (where tbl = 'r'), 0) as r_rows, coalesce(sum(digest) filter (where tbl = 'r'), 0) as r_digest,
         coalesce(sum(rows) filter (where tbl = 'k'), 0) as k_rows, coalesce(sum(digest) filter (where tbl = 'k'), 0) as k_digest,
         coalesce(sum(rows) filter (where tbl = 'p'), 0) as p_rows, coalesce(sum(digest) filter (where tbl = 'p'), 0) as p_digest
    into s from gone;
  if s.n > 1000 and ocsp_internal.trying() then
    raise exception 'a plan of % rows would keep every other writer waiting: 1,000 at most are tried', s.n using errcode = 'program_limit_exceeded';
  end if;
  if s.revocations + s.own > 0 then
    perform ocsp_internal.limit_take(s.revocations::bigint, s.own::bigint);
  end if;
  if s.n > 0 then
    insert into ocsp_internal.change_tx (first, last, xid, at) values (h.position + 1, h.position + s.n, me, clock_timestamp());
    h.position := h.position + s.n;
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
    certificate_count = h.certificate_count + s.c_rows,
    certificate_digest = ocsp_internal.mod64(h.certificate_digest + s.c_digest),
    issuer_count = h.issuer_count + s.i_rows,
    issuer_digest = ocsp_internal.mod64(h.issuer_digest + s.i_digest),
    responder_certificate_count = h.responder_certificate_count + s.r_rows,
    responder_certificate_digest = ocsp_internal.mod64(h.responder_certificate_digest + s.r_digest),
    correction_count = h.correction_count + s.k_rows,
    correction_digest = ocsp_internal.mod64(h.correction_digest + s.k_digest),
    closed_pin_count = h.closed_pin_count + s.p_rows,
    closed_pin_digest = ocsp_internal.mod64(h.closed_pin_digest + s.p_digest),
    audit_count = h.audit_count,
    audit_hash = h.audit_hash;
  return null;
end $$;
create constraint trigger z_head after insert on ocsp_internal.change_note deferrable initially deferred
  for each row execute function ocsp_internal.head_take();

reset role;

-- Nothing of ours is everybody's: rights.txt says what each role may (package migrations).
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
