-- What one person must not do alone: take a permanent revocation back, and
-- revoke more in an hour than the fleet allows.

-- Set by a superuser alone (ocspctl db limit).
create table limits (
  id                   smallint primary key check (id = 1),
  revocations_per_hour bigint not null check (revocations_per_hour between 0 and 1000000000)
);
insert into limits values (1, 100);

-- Revocations per minute that took nobody's allowance; older hours are dropped.
create table revocation_tally (
  minute timestamptz primary key,
  n      bigint not null
) with (fillfactor = 50);

-- A request, and what became of it. Nothing is deleted.
create table approval (
  id               bigint generated always as identity primary key,
  act              text not null check (act in ('cert correct', 'bulk')),
  what             jsonb not null,
  why              text not null check (btrim(why) <> ''),
  db_role          text not null default session_user,
  os_user          text not null,
  at               timestamptz not null default clock_timestamp(),
  expires_at       timestamptz not null default clock_timestamp() + interval '24 h',
  approved_by      text check (approved_by <> db_role),
  approved_os_user text,
  approved_at      timestamptz,
  remaining        bigint check (remaining >= 0)  -- bulk, once approved: revocations still allowed
);

-- At COMMIT, under the head's lock, so that the count is exact: p_n revocations
-- more than the hour has seen. What goes beyond the limit is taken from the
-- caller's approved allowances.
create function limit_take(p_n bigint) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  this_minute constant timestamptz := date_trunc('minute', clock_timestamp());
  most bigint;
  used bigint;
  beyond bigint;
  needed bigint;
  a public.approval;
begin
  select revocations_per_hour into most from public.limits;
  delete from public.revocation_tally where minute <= this_minute - interval '1 h';
  select coalesce(sum(n), 0) into used from public.revocation_tally;
  beyond := greatest(0, least(p_n, used + p_n - most));
  needed := beyond;
  if needed > 0 then
    for a in select * from public.approval where act = 'bulk' and db_role = session_user and remaining > 0 and expires_at > clock_timestamp()
             order by id for update loop
      update public.approval set remaining = remaining - least(needed, a.remaining) where id = a.id;
      needed := needed - least(needed, a.remaining);
      exit when needed = 0;
    end loop;
  end if;
  if needed > 0 then
    raise exception 'this fleet revokes at most % certificates an hour on one person''s word: % in the last hour, % more here', most, used, p_n
      using errcode = 'program_limit_exceeded',
            hint = format('Run ocspctl approval request bulk --count %s --why TEXT --apply; another operator approves it; then repeat this. responder revoke is never limited.', needed);
  end if;
  insert into public.revocation_tally (minute, n) select this_minute, p_n - beyond where p_n > beyond
    on conflict (minute) do update set n = revocation_tally.n + excluded.n;
end $$;

create function limit_set(p_revocations_per_hour bigint, p_why text, p_os_user text) returns bigint
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  before bigint;
begin
  select revocations_per_hour into before from public.limits for update;
  if before <> p_revocations_per_hour then
    update public.limits set revocations_per_hour = p_revocations_per_hour;
    perform public.note('db limit', jsonb_build_object('revocations_per_hour', p_revocations_per_hour, 'before', before), p_why, p_os_user);
  end if;
  return before;
end $$;

-- Files a request. cert correct: {"issuer": 1, "serials": ["5f03a1", ...]};
-- bulk: {"count": 500}.
create function approval_request(p_act text, p_what jsonb, p_why text, p_os_user text, out id bigint, out expires_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  filed jsonb := p_what;
begin
  if btrim(p_why) = '' then
    raise exception 'a request for approval says why' using errcode = 'check_violation', hint = 'Add --why TEXT.';
  elsif p_act = 'cert correct' then
    if jsonb_array_length(p_what->'serials') not between 1 and 1000 then
      raise exception 'a correction names 1 to 1000 certificates, not %', jsonb_array_length(p_what->'serials') using errcode = 'check_violation';
    end if;
    filed := jsonb_build_object('issuer', p_what->'issuer', 'certificates', (
      select jsonb_agg(jsonb_build_object('serial', s, 'revoked_at', public.correctable((p_what->>'issuer')::int, decode(s, 'hex'))) order by s)
      from (select distinct s from jsonb_array_elements_text(p_what->'serials') s) d));
  elsif p_act <> 'bulk' or (p_what->>'count')::bigint not between 1 and 1000000000 then
    raise exception 'there is no approval for % %', p_act, p_what using errcode = 'check_violation';
  end if;
  insert into public.approval as a (act, what, why, os_user) values (p_act, filed, p_why, p_os_user) returning a.id, a.expires_at into id, expires_at;
  perform public.note('approval request', jsonb_build_object('approval', id, 'act', p_act) || filed, p_why, p_os_user);
end $$;

-- The second person agrees: a correction is made at once, in this transaction; a
-- bulk becomes the requester's allowance for 24 hours.
create function approval_give(p_id bigint, p_why text, p_os_user text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  a public.approval;
  told jsonb;
begin
  select * into a from public.approval where id = p_id for update;
  if not found then
    raise exception 'there is no request %', p_id using errcode = 'no_data_found', hint = 'ocspctl approval list shows what is open.';
  elsif a.approved_at is not null then
    raise exception 'request % was approved by % at % already', p_id, a.approved_by, a.approved_at using errcode = 'object_not_in_prerequisite_state';
  elsif a.db_role = session_user then
    raise exception 'request % is your own (login %): it needs a second person', p_id, a.db_role
      using errcode = 'insufficient_privilege', hint = 'Another operator, with another login, runs ocspctl approve.';
  elsif a.expires_at <= clock_timestamp() then
    raise exception 'request % expired at %', p_id, a.expires_at using errcode = 'object_not_in_prerequisite_state', hint = 'Request it anew.';
  end if;
  update public.approval set approved_by = session_user, approved_os_user = p_os_user, approved_at = clock_timestamp() where id = p_id;
  told := jsonb_build_object('approval', a.id, 'act', a.act, 'requested_by', a.db_role, 'requested_why', a.why) || a.what;
  perform public.note('approval give', told, p_why, p_os_user);
  if a.act = 'bulk' then
    update public.approval set remaining = (a.what->>'count')::bigint, expires_at = clock_timestamp() + interval '24 h' where id = p_id;
    return;
  end if;
  insert into public.correction (issuer_id, serial, revoked_at, corrected_at)
    select (a.what->>'issuer')::int, decode(c->>'serial', 'hex'), (c->>'revoked_at')::timestamptz, date_trunc('second', clock_timestamp())
    from jsonb_array_elements(a.what->'certificates') c order by 2;
  update public.certificate c set revoked_at = null, reason = null from public.correction k
    where k.xid = pg_current_xact_id() and (k.issuer_id, k.serial, k.revoked_at) = (c.issuer_id, c.serial, c.revoked_at);
  perform public.note('cert correct', told || jsonb_build_object('requested_os_user', a.os_user), a.why, p_os_user);
end $$;

-- A new history: for a master that was brought up from a backup, once all that
-- the sites know was entered again. The rows stay.
create function epoch_new(p_epoch bigint, p_why text, p_os_user text) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  before bigint;
begin
  select epoch into before from public.feed_head for no key update;
  if before >= p_epoch then
    raise exception 'epoch % is not later than this master''s own (%)', p_epoch, before using errcode = 'check_violation';
  end if;
  update public.feed_head set epoch = p_epoch;
  perform public.note('db epoch', jsonb_build_object('epoch', p_epoch, 'before', before), p_why, p_os_user);
end $$;

alter table limits owner to ocsp_owner;
alter table revocation_tally owner to ocsp_owner;
alter table approval owner to ocsp_owner;

do $$
declare
  f text;
begin
  foreach f in array array['limit_take(bigint)', 'limit_set(bigint, text, text)', 'approval_request(text, jsonb, text, text)',
                           'approval_give(bigint, text, text)', 'epoch_new(bigint, text, text)'] loop
    execute format('alter function %s owner to ocsp_owner; revoke all on function %s from public', f, f);
  end loop;
end $$;

grant execute on function approval_request to ocsp_ca, ocsp_operator;
grant execute on function approval_give to ocsp_operator;
grant select on approval, limits, revocation_tally to ocsp_ca, ocsp_operator;
