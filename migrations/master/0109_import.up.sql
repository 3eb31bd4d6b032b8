-- Imports. The rows of a file come once into a temporary table of the caller's session,
-- which goes with it. A plan is a query over them, an import the same query in batches,
-- each a transaction of its own. What a row does says certificate_effect alone.
set role ocsp_owner;

-- The numbers of the newest CRLs of the issuer that were imported, in decimal digits.
-- Numbers are compared within a shard (RFC 5280 section 5.2.5); '' is the whole list.
create function certificate_crl_numbers(p_issuer int) returns table (shard text, number text)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(what ->> 'crl_shard', ''), max((what ->> 'crl_number')::numeric)::text from ocsp_internal.audit
    where act = 'cert import' and what ? 'crl_number' and (what ->> 'issuer')::int = p_issuer group by 1;
$$;

-- Ends that were guessed: --not-after of an import. A mark counts while the certificate
-- has that end.
create table ocsp_internal.guessed_end (
  issuer_id int not null,
  serial    bytea not null,
  not_after timestamptz not null,
  primary key (issuer_id, serial)
);

-- What a row of a source does to a certificate. Where the end here was guessed, one that
-- the source states wins if it is later ('end'). If not, the end stays ('guessed_end'):
-- sites take an end that moves back for an attack, and a later one does no harm.
create function ocsp_internal.import_effect(guessed timestamptz, here_not_after timestamptz, here_revoked_at timestamptz, here_reason smallint,
    not_after timestamptz, revoked_at timestamptz, reason smallint, silent boolean) returns text language sql immutable parallel safe
  return case
    when guessed = here_not_after and not_after <> here_not_after then
      case when ocsp_internal.certificate_effect(not_after, here_revoked_at, here_reason, not_after, revoked_at, reason, silent) <> 'same'
        then ocsp_internal.certificate_effect(not_after, here_revoked_at, here_reason, not_after, revoked_at, reason, silent)
        when not_after > here_not_after then 'end' else 'guessed_end' end
    else ocsp_internal.certificate_effect(here_not_after, here_revoked_at, here_reason, not_after, revoked_at, reason, silent) end;

-- Brings some rows to the master: what is new is inserted, what was good or on hold and
-- is revoked in the source is revoked, keyCompromise replaces another reason. An end
-- that is null is the master's own, else p_end; what has none is left out.
create function ocsp_internal.import_write(p_act text, p_issuer int, p_serials bytea[], p_not_after timestamptz[], p_revoked_at timestamptz[],
    p_reasons smallint[], p_silent boolean[], p_end timestamptz, p_source jsonb, p_why text, p_os_user text) returns table (inserted bigint, revoked bigint, unchanged bigint)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  moved bigint; -- got another end and nothing else
  seen bigint;  -- good until now: what comes in revoked changes nothing for clients
  own bigint;   -- of those, what this login issued within the hour
  other bytea;
begin
  with compared as (  -- OFFSET 0: one index look-up per row, whatever their number
    select s.serial, s.revoked_at, s.reason, coalesce(s.not_after, c.not_after, p_end) as ends, s.not_after is null as guess,
      ocsp_internal.import_effect(g.not_after, c.not_after, c.revoked_at, c.reason, coalesce(s.not_after, c.not_after, p_end), s.revoked_at, s.reason,
        coalesce(s.silent, false)) as effect, c.made
    from unnest(p_serials, p_not_after, p_revoked_at, p_reasons, p_silent) as s(serial, not_after, revoked_at, reason, silent)
    left join lateral (select c.*, c.xmin as made from public.certificate c where c.issuer_id = p_issuer and c.serial = s.serial offset 0) c on true
    left join lateral (select * from ocsp_internal.guessed_end g where g.issuer_id = p_issuer and g.serial = s.serial offset 0) g on true),
  written as (
    insert into public.certificate as c (issuer_id, serial, not_after, revoked_at, reason)
      select p_issuer, j.serial, j.ends, j.revoked_at, j.reason from compared j where ocsp_internal.writes(j.effect)
      on conflict (issuer_id, serial) do update set reason = excluded.reason,
          revoked_at = case when ocsp_internal.is_permanent(c.revoked_at, c.reason) then c.revoked_at else excluded.revoked_at end,
          not_after = case when c.not_after = (select g.not_after from ocsp_internal.guessed_end g where g.issuer_id = c.issuer_id and g.serial = c.serial)
            then greatest(c.not_after, excluded.not_after) else c.not_after end
        where ocsp_internal.writes(ocsp_internal.certificate_effect(c.not_after, c.revoked_at, c.reason, c.not_after, excluded.revoked_at, excluded.reason, false))
      returning xmax = 0 as new),
  marked as (
    insert into ocsp_internal.guessed_end select p_issuer, j.serial, j.ends from compared j where j.effect = 'new' and j.guess
      on conflict (issuer_id, serial) do update set not_after = excluded.not_after),
  ended as (
    update public.certificate c set not_after = j.ends from compared j
      where j.effect = 'end' and c.issuer_id = p_issuer and c.serial = j.serial and c.not_after < j.ends returning 1)
  select count(*) filter (where new), count(*) filter (where not new), (select count(*) from ended), (select count(*) from compared where effect = 'revoke'),
      (select count(*) from compared where effect = 'revoke' and ocsp_internal.issued_by_me(made)),
      (select serial from compared where effect = 'other_not_after' limit 1)
    into inserted, revoked, moved, seen, own, other from written;
  if other is not null then
    raise exception 'serial % of issuer % is issued already, with another end of validity', encode(other, 'hex'), p_issuer using errcode = 'unique_violation',
      hint = 'Is it the file of that issuer? A wrong end is mended by ocspctl cert correct --not-after.';
  end if;
  perform ocsp_internal.limit_add(seen - own, own);
  unchanged := cardinality(p_serials) - inserted - revoked - moved;
  -- The number of a CRL is remembered even where it changed nothing.
  if inserted + revoked + moved > 0 or (p_source ->> 'crl_number')::numeric > coalesce((select n.number::numeric
      from public.certificate_crl_numbers(p_issuer) n where n.shard = coalesce(p_source ->> 'crl_shard', '')), -1) then
    perform ocsp_internal.audit_append(p_act, p_source || jsonb_build_object('issuer', p_issuer, 'inserted', inserted, 'revoked', revoked,
      'moved', moved, 'unchanged', unchanged), p_why, p_os_user);
  end if;
  return next;
end $$;

-- One batch, for the CA's software: serials, ends, revocations (null: none) by index.
create function certificate_import(p_issuer int, p_serials bytea[], p_not_after timestamptz[], p_revoked_at timestamptz[],
    p_reasons smallint[], p_source jsonb, p_why text, p_os_user text) returns table (inserted bigint, revoked bigint, unchanged bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if cardinality(p_not_after) <> cardinality(p_serials) or array_position(p_not_after, null) is not null then
    raise exception 'each certificate of a batch has its end' using errcode = 'not_null_violation', hint = 'p_not_after has one time for each serial.';
  end if;
  return query select * from ocsp_internal.import_write('cert import', p_issuer, p_serials, p_not_after, p_revoked_at, p_reasons, null, null, p_source, p_why, p_os_user);
end $$;

-- Makes the table of this session's import; the one before goes. The caller may fill
-- it and nothing else: a temporary table of its own, it cannot make.
create function import_begin() returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if pg_my_temp_schema() = 0 then  -- it can be set no later
    perform set_config('temp_buffers', '64MB', false);
  end if;
  drop table if exists pg_temp.import_row;
  create temporary table import_row (
    n          bigint not null,  -- place among the rows of the file, from 1
    name       text,             -- of a file in a directory or tar; null: none
    line       bigint,
    item       bigint,           -- of an entry that lines do not tell apart
    serial     bytea not null,
    not_after  timestamptz,      -- null: the source does not state it
    revoked_at timestamptz,
    reason     smallint,
    silent     boolean not null, -- it proves the certificate, and says nothing of its revocation
    version    bigint            -- of rows of one serial, the greatest counts; null: there are no versions
  );
  grant insert on pg_temp.import_row to ocsp_ca, ocsp_operator;
end $$;

-- The table must be import_begin's: a superuser could put another in its place, with
-- triggers that would run with our rights.
create function ocsp_internal.import_begun() returns void language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from pg_class where relnamespace = pg_my_temp_schema() and relname = 'import_row' and relkind = 'r'
      and relowner = 'ocsp_owner'::regrole) then
    raise exception 'no import was begun in this session' using errcode = 'object_not_in_prerequisite_state', hint = 'import_begin() begins one.';
  end if;
end $$;

-- What is wrong with the rows, beyond their form. Fault repeated: the serial stands in
-- another place (o_...) already, and that says something else. Lists (p_lists: CRLs, told
-- apart by name) may differ from each other.
create function import_faults(p_issuer int, p_lists boolean) returns table (n bigint, name text, line bigint, item bigint, serial bytea, not_after timestamptz,
    revoked_at timestamptz, fault text, o_name text, o_line bigint, o_item bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  hold constant boolean := ocsp_internal.allows_hold(p_issuer);
  now_at constant timestamptz := clock_timestamp();
begin
  perform ocsp_internal.import_begun();
  create index import_row_n on pg_temp.import_row (n);
  create index import_row_serial on pg_temp.import_row (serial);
  return query
    select f.* from (
      select r.n, r.name, r.line, r.item, r.serial, r.not_after, r.revoked_at,
        ocsp_internal.import_fault(r.serial, r.not_after, r.revoked_at, r.reason, hold, now_at) as fault,
        null::text, null::bigint, null::bigint
      from pg_temp.import_row r) f where f.fault is not null order by f.n;
  if not exists (select from pg_temp.import_row t group by t.serial having count(*) > 1) then
    return;
  end if;
  return query
    select r.n, r.name, r.line, r.item, r.serial, r.not_after, r.revoked_at, 'repeated', o.name, o.line, o.item
    from (select t.serial from pg_temp.import_row t group by t.serial having count(*) > 1) twice
    join pg_temp.import_row r on r.serial = twice.serial
    join lateral (
      select b.* from pg_temp.import_row b where b.serial = r.serial and b.n < r.n
        and b.version is not distinct from r.version and (not p_lists or b.name is not distinct from r.name)
        and (b.not_after <> r.not_after or b.silent = r.silent and (b.not_after, b.revoked_at, b.reason) is distinct from (r.not_after, r.revoked_at, r.reason))
      order by b.n limit 1) o on true
    order by r.n;
end $$;

-- What the tables would refuse of one row.
create function ocsp_internal.import_fault(serial bytea, not_after timestamptz, revoked_at timestamptz, reason smallint, allows_hold boolean, at timestamptz)
  returns text language sql stable parallel safe
  return case
    when not ocsp_internal.is_serial(serial) then 'serial'
    when not ocsp_internal.is_time(not_after) or not_after >= '10000-01-01 00:00Z' then 'not_after'
    when not ocsp_internal.is_time(revoked_at) then 'revoked_at'
    when revoked_at > at + ocsp_internal.max_clock_skew() then 'future'
    when reason = 6 and not allows_hold then 'hold' end;

-- Takes the bad rows out, by number. Then rows of one serial become one: of the greatest
-- version the one that speaks of the revocation, the strongest, with the earliest time,
-- and with the end that any of them tells. Returns how many went besides the bad.
create function import_merge(p_bad bigint[]) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  n_gone bigint;
begin
  perform ocsp_internal.import_begun();
  delete from pg_temp.import_row r where r.n = any (p_bad);
  if not exists (select from pg_temp.import_row t group by t.serial having count(*) > 1) then
    return 0;
  end if;
  with ranked as (
    select r.n, max(r.not_after) over same as known_end, min(r.revoked_at) filter (where ocsp_internal.is_permanent(r.revoked_at, r.reason)) over same as first_at,
      row_number() over (partition by r.serial order by r.version desc nulls last, r.silent, ocsp_internal.is_permanent(r.revoked_at, r.reason) desc,
        r.reason is not distinct from 1 desc, r.revoked_at, r.n) as place
    from pg_temp.import_row r
    where r.serial in (select t.serial from pg_temp.import_row t group by t.serial having count(*) > 1)
    window same as (partition by r.serial, r.version)),
  kept as (update pg_temp.import_row r set not_after = coalesce(r.not_after, k.known_end),
      revoked_at = case when ocsp_internal.is_permanent(r.revoked_at, r.reason) then k.first_at else r.revoked_at end
    from ranked k where k.place = 1 and k.n = r.n)
  delete from pg_temp.import_row r using ranked k where k.place > 1 and k.n = r.n;
  get diagnostics n_gone = row_count;
  return n_gone;
end $$;

-- What would become of the rows with numbers from p_after to p_last (the first left
-- out), beside what is said here: how many have each effect, by the state that the
-- source tells (n null), then all whose effect is neither same, guessed_end nor new, and
-- the first p_new new ones.
create function import_plan(p_issuer int, p_after bigint, p_last bigint, p_end timestamptz, p_new int)
  returns table (effect text, state text, n bigint, rows bigint, name text, line bigint, item bigint, serial bytea, not_after timestamptz, revoked_at timestamptz,
    reason smallint, here_not_after timestamptz, here_revoked_at timestamptz, here_reason smallint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.import_begun();
  return query
    with compared as materialized (
      select r.n, r.name, r.line, r.item, r.serial, r.not_after, r.revoked_at, r.reason, c.not_after as here_end, c.revoked_at as here_at, c.reason as here_why,
        ocsp_internal.import_effect(g.not_after, c.not_after, c.revoked_at, c.reason, coalesce(r.not_after, c.not_after, p_end), r.revoked_at, r.reason, r.silent) as becomes,
        case when r.revoked_at is null then 'good' when ocsp_internal.is_permanent(r.revoked_at, r.reason) then 'revoked' else 'held' end as is_state
      from (select * from pg_temp.import_row t where t.n > p_after and t.n <= p_last) r
      left join lateral (select * from public.certificate c where c.issuer_id = p_issuer and c.serial = r.serial offset 0) c on true
      left join lateral (select * from ocsp_internal.guessed_end e where e.issuer_id = p_issuer and e.serial = r.serial offset 0) g on true)
    select j.becomes, j.is_state, null::bigint, count(*), null::text, null::bigint, null::bigint, null::bytea, null::timestamptz, null::timestamptz, null::smallint,
        null::timestamptz, null::timestamptz, null::smallint
      from compared j group by j.becomes, j.is_state
    union all (select j.becomes, j.is_state, j.n, 1, j.name, j.line, j.item, j.serial, j.not_after, j.revoked_at, j.reason, j.here_end, j.here_at, j.here_why
      from compared j where j.becomes not in ('same', 'guessed_end', 'new') order by j.n)
    union all (select j.becomes, j.is_state, j.n, 1, j.name, j.line, j.item, j.serial, coalesce(j.not_after, p_end), j.revoked_at, j.reason, null, null, null
      from compared j where j.becomes = 'new' order by j.n limit p_new);
end $$;

-- Brings these rows to the master.
create function import_apply(p_issuer int, p_after bigint, p_last bigint, p_end timestamptz, p_source jsonb, p_why text, p_os_user text)
  returns table (inserted bigint, revoked bigint, unchanged bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.import_begun();
  if p_last - p_after > 10000 then
    raise exception 'a batch of % rows: want 10,000 at most, or others wait for it', p_last - p_after using errcode = 'program_limit_exceeded';
  end if;
  return query select w.* from (
      select array_agg(r.serial) as serials, array_agg(r.not_after) as ends, array_agg(r.revoked_at) as times, array_agg(r.reason) as reasons, array_agg(r.silent) as silent
      from pg_temp.import_row r where r.n > p_after and r.n <= p_last) a,
    ocsp_internal.import_write('cert import', p_issuer, coalesce(a.serials, '{}'), a.ends, a.times, a.reasons, a.silent, p_end, p_source, p_why, p_os_user) w;
end $$;

-- The other way round: of the next p_limit certificates that are here, by serial after
-- p_after, those that the file has not. Kind page counts what was looked at, and has the
-- last serial; missing are those that the file should have, one by one. A CRL (made at
-- p_crl_at; null: it is none) has the revoked ones alone.
create function import_missing(p_issuer int, p_after bytea, p_limit int, p_crl_at timestamptz)
  returns table (kind text, rows bigint, serial bytea, not_after timestamptz, revoked_at timestamptz, reason smallint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  at constant timestamptz := coalesce(p_crl_at, clock_timestamp());
begin
  perform ocsp_internal.import_begun();
  return query
    with page as materialized (  -- cut before the join: the table is read in the order of its key
      select c.serial, c.not_after, c.revoked_at, c.reason from public.certificate c where c.issuer_id = p_issuer and c.serial > p_after
        order by c.serial limit p_limit),
    missing as materialized (
      select p.*, case
          when p_crl_at is null and exists (
            select from public.responder_certificate r where r.issuer_id = p_issuer and r.serial = p.serial
            union all select from ocsp_internal.responder_withheld r where r.issuer_id = p_issuer and r.serial = p.serial)
            or exists (select from ocsp_internal.responder_planned r where r.issuer_id = p_issuer and r.serial = p.serial) then 'own'  -- not even signed
          when p.not_after < at then 'expired'
          when p_crl_at is not null and p.revoked_at > date_trunc('second', at) then 'newer'
          else 'missing' end as is_kind
      from page p where (p_crl_at is null or p.revoked_at is not null)
        and not exists (select from pg_temp.import_row r where r.serial = p.serial offset 0))  -- one index look-up per row
    select 'page', count(*), (select p.serial from page p order by p.serial desc limit 1), null::timestamptz, null::timestamptz, null::smallint from page
    union all select m.is_kind, count(*), null, null, null, null from missing m where m.is_kind <> 'missing' group by m.is_kind
    union all (select m.is_kind, 1, m.serial, m.not_after, m.revoked_at, m.reason from missing m where m.is_kind = 'missing' order by m.serial);
end $$;

-- What statements about certificates would do here, of those that are not so already:
-- corrected says that the revocation was taken back here. It only reads.
create function certificate_effects(p_issuer int, p_serials bytea[], p_not_after timestamptz[], p_revoked_at timestamptz[], p_reasons smallint[])
  returns table (place bigint, effect text, corrected boolean, here_not_after timestamptz, here_revoked_at timestamptz, here_reason smallint)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select e.* from (
    select s.place, ocsp_internal.import_effect(g.not_after, c.not_after, c.revoked_at, c.reason, s.not_after, s.revoked_at, s.reason, false) as effect,
      exists (select from public.correction k where (k.issuer_id, k.serial, k.revoked_at) = (p_issuer, s.serial, s.revoked_at)), c.not_after, c.revoked_at, c.reason
    from unnest(p_serials, p_not_after, p_revoked_at, p_reasons) with ordinality as s(serial, not_after, revoked_at, reason, place)
    left join lateral (select * from public.certificate c where c.issuer_id = p_issuer and c.serial = s.serial offset 0) c on true
    left join lateral (select * from ocsp_internal.guessed_end g where g.issuer_id = p_issuer and g.serial = s.serial offset 0) g on true) e
  where e.effect not in ('same', 'guessed_end') order by e.place;
$$;

-- What a request to enter again what this master lost names: where it comes from, how
-- many certificates of each state, and of each batch the SHA-256 of the rows' canonical
-- bytes. feed recover has the epoch and position of what the feed's key signed.
create function ocsp_internal.recovery_filed(p_what jsonb) returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(jsonb_array_length(p_what->'batches'), 0) not between 1 and 200
      or exists (select from jsonb_array_elements_text(p_what->'batches') e where e !~ '^[0-9a-f]{64}$') then
    raise exception 'what was lost is named by 1 to 200 batches of 10,000 certificates' using errcode = 'check_violation',
      hint = 'Import the CA''s own list first: ocspctl cert import.';
  elsif coalesce(octet_length(p_what->>'from'), 0) not between 1 and 1000 or (p_what->>'good')::bigint + (p_what->>'held')::bigint + (p_what->>'revoked')::bigint is null then
    raise exception 'what was lost comes from somewhere, and is counted' using errcode = 'check_violation';
  end if;
  return jsonb_strip_nulls(jsonb_build_object('from', p_what->>'from', 'epoch', (p_what->>'epoch')::bigint, 'position', (p_what->>'position')::bigint,
    'good', (p_what->>'good')::bigint, 'held', (p_what->>'held')::bigint, 'revoked', (p_what->>'revoked')::bigint, 'batches', p_what->'batches'));
end $$;

-- Enters one batch to which two persons have agreed, within 24 hours: exactly these rows.
-- They do what those of an import do. A site's claim (fleet lost) can issue nothing.
create function recovery_apply(p_issuer int, p_serials bytea[], p_not_after timestamptz[], p_revoked_at timestamptz[], p_reasons smallint[],
    p_why text, p_os_user text) returns table (inserted bigint, revoked bigint, unchanged bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  a ocsp_internal.approval;
  summed text;
  lasting boolean;
begin
  perform ocsp_internal.persons_only();
  if cardinality(p_serials) > 10000 then
    raise exception 'a batch of % rows: want 10,000 at most, or others wait for it', cardinality(p_serials) using errcode = 'program_limit_exceeded';
  end if;
  select encode(sha256(string_agg(ocsp_internal.certificate_canonical(p_issuer, s.serial, s.not_after, s.revoked_at, s.reason), ''::bytea order by s.place)), 'hex'),
      bool_and(coalesce(ocsp_internal.is_permanent(s.revoked_at, s.reason), false))
    into summed, lasting
    from unnest(p_serials, p_not_after, p_revoked_at, p_reasons) with ordinality as s(serial, not_after, revoked_at, reason, place);
  select * into a from ocsp_internal.approval
    where act in ('feed recover', 'fleet lost') and approved_at is not null and expires_at > clock_timestamp() and what->'batches' ? summed order by id desc limit 1;
  if not found then
    raise exception 'no two persons agreed that these % certificates are entered', cardinality(p_serials) using errcode = 'insufficient_privilege',
      hint = 'ocspctl feed recover and ocspctl fleet lost ask for it; another operator approves.';
  elsif a.act = 'fleet lost' and not lasting then
    raise exception 'of what a site alone says, permanent revocations are entered and nothing else' using errcode = 'check_violation',
      hint = 'What the feed''s key signed: ocspctl feed recover; the CA''s own list: ocspctl cert import.';
  end if;
  return query select * from ocsp_internal.import_write(a.act, p_issuer, p_serials, p_not_after, p_revoked_at, p_reasons, null, null,
    jsonb_build_object('approval', a.id, 'from', a.what->'from', 'requested_by', a.db_role, 'approved_by', a.approved_by), p_why, p_os_user);
end $$;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
