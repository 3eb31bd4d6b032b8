-- What one person must not do alone: take a permanent revocation or a wrong import
-- back, and revoke more in an hour than the fleet allows.
set role ocsp_owner;

-- Set by a superuser alone (ocspctl db limit).
create table ocsp_internal.limits (
  id                   smallint primary key check (id = 1),
  revocations_per_hour bigint not null check (revocations_per_hour between 0 and 1000000000)
);
insert into ocsp_internal.limits values (1, 100);

-- Revocations of each login per minute that took no allowance; older hours are dropped.
create table ocsp_internal.revocation_tally (
  minute timestamptz not null,
  login  text not null,
  others bigint not null,  -- of certificates that others issued, or that are older than an hour
  own    bigint not null,  -- of those that this login issued within the hour
  primary key (minute, login)
) with (fillfactor = 50);

-- Whether a login is a person's or a program's (ocspctl db user add --kind); one that
-- is not here is a program's.
create table ocsp_internal.login_kind (
  login text primary key,
  kind  text not null check (kind in ('person', 'service'))
);

create function ocsp_internal.is_person(p_login text) returns boolean language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (select from ocsp_internal.login_kind where login = p_login and kind = 'person') or exists (select from pg_roles where rolname = p_login and rolsuper);
$$;

-- Persons alone request and approve: a program's password lies in a file.
create function ocsp_internal.persons_only() returns void language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not ocsp_internal.is_person(session_user) then
    raise exception 'login % is a program''s: a person asks for an approval, and another one gives it', session_user using errcode = 'insufficient_privilege',
      hint = 'Use your own login; a superuser marks it as a person''s: ocspctl db user add NAME --role ROLE --kind person.';
  end if;
end $$;

-- A request, and what became of it. Nothing is deleted.
create table ocsp_internal.approval (
  id               bigint generated always as identity primary key,
  act              text not null check (act in ('cert correct', 'bulk', 'issuer crl_url', 'db purge', 'fork settle', 'feed recover', 'fleet lost')),
  what             jsonb not null,
  why              text not null check (btrim(why) <> ''),
  db_role          text not null default session_user,
  os_user          text not null,
  at               timestamptz not null default clock_timestamp(),
  expires_at       timestamptz not null default clock_timestamp() + interval '24 h',
  approved_by      text check (approved_by <> db_role),
  approved_os_user text,
  approved_at      timestamptz,
  refused_by       text check (approved_by is null or refused_by is null),
  refused_os_user  text,
  refused_at       timestamptz,
  xid              xid8,  -- of the transaction that carried it out
  remaining        bigint check (remaining >= 0)  -- bulk, once approved: revocations still allowed
);

-- Whether the caller issued or imported a row within the hour, by the transaction that
-- wrote it last: its audit entry names the login.
create function ocsp_internal.issued_by_me(p_xmin xid) returns boolean language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (
    select from (select pg_current_xact_id()::text::bigint as now, p_xmin::text::bigint as low) x
    join ocsp_internal.audit a on a.xid = (x.now - ((x.now - x.low) & 4294967295))::text::xid8
    where a.db_role = session_user and a.at > clock_timestamp() - interval '1 h');
$$;

-- The hourly limit as it stands for the caller. Each login revokes up to the limit.
-- Of certificates that it did not issue within the hour, all services together revoke
-- twice the limit and all logins three times: so the persons' last share is their own,
-- and no login uses up another's alone.
create function limit_state(out per_hour bigint, out mine bigint, out services bigint, out all_logins bigint, out remaining bigint, out remaining_others bigint)
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  since constant timestamptz := date_trunc('minute', clock_timestamp()) - interval '1 h';
begin
  select revocations_per_hour into per_hour from ocsp_internal.limits;
  select coalesce(sum(others + own) filter (where login = session_user), 0), coalesce(sum(others) filter (where not ocsp_internal.is_person(login)), 0),
      coalesce(sum(others), 0)
    into mine, services, all_logins from ocsp_internal.revocation_tally where minute > since;
  remaining := greatest(0, per_hour - mine);
  remaining_others := greatest(0, least(remaining, 3 * per_hour - all_logins, case when not ocsp_internal.is_person(session_user) then 2 * per_hour - services end));
end $$;

-- At COMMIT, under the head's lock, so that the count is exact: revocations of others'
-- certificates and of the caller's own, more than the hour has seen. What goes beyond
-- the limit is taken from the allowances that name this login.
create function ocsp_internal.limit_take(p_others bigint, p_own bigint) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  this_minute constant timestamptz := date_trunc('minute', clock_timestamp());
  l record;
  beyond bigint;
  needed bigint;
  a ocsp_internal.approval;
begin
  delete from ocsp_internal.revocation_tally where minute <= this_minute - interval '1 h';
  select * into l from public.limit_state();
  beyond := greatest(0, p_others - l.remaining_others, p_others + p_own - l.remaining);
  needed := beyond;
  if needed > 0 then
    for a in select * from ocsp_internal.approval where act = 'bulk' and what->>'login' = session_user and remaining > 0 and expires_at > clock_timestamp()
             order by id for update loop
      update ocsp_internal.approval set remaining = remaining - least(needed, a.remaining) where id = a.id;
      needed := needed - least(needed, a.remaining);
      exit when needed = 0;
    end loop;
  end if;
  if needed > 0 then
    raise exception 'login % revokes at most % certificates an hour on one person''s word: % in the last hour, % more here (all services: % of %, all logins: % of %)',
      session_user, l.per_hour, l.mine, p_others + p_own, l.services, 2 * l.per_hour, l.all_logins, 3 * l.per_hour
      using errcode = 'program_limit_exceeded', detail = needed,
            hint = format('A person runs ocspctl approval request bulk --count %s --login %s --why TEXT --apply; another one approves it; then repeat this. responder revoke is never limited.', needed, session_user);
  end if;
  insert into ocsp_internal.revocation_tally as t (minute, login, others, own)
    select this_minute, session_user, p_others - least(p_others, beyond), p_own - greatest(0, beyond - p_others) where p_others + p_own > beyond
    on conflict (minute, login) do update set others = t.others + excluded.others, own = t.own + excluded.own;
end $$;

-- For a plan that is not made of the changes themselves (an import): as if p_n
-- certificates that are good were revoked. Only a transaction that is rolled back may ask (trying).
create function limit_try(p_n bigint) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not ocsp_internal.trying() then
    raise exception 'revocations that are not made are only tried' using errcode = 'feature_not_supported';
  end if;
  perform ocsp_internal.limit_add(p_n, 0);
end $$;

create function ocsp_internal.limit_set(p_revocations_per_hour bigint, p_why text, p_os_user text) returns bigint
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  before bigint;
begin
  select revocations_per_hour into before from ocsp_internal.limits for update;
  if before <> p_revocations_per_hour then
    update ocsp_internal.limits set revocations_per_hour = p_revocations_per_hour;
    perform ocsp_internal.audit_append('db limit', jsonb_build_object('revocations_per_hour', p_revocations_per_hour, 'before', before), p_why, p_os_user);
  end if;
  return before;
end $$;

-- What a request for a correction names, with what each certificate is now:
-- that, and nothing that it becomes later, is what will be approved.
create function ocsp_internal.correction_filed(p_what jsonb) returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  issuer constant int := (p_what->>'issuer')::int;
  wrong constant text := coalesce(p_what->>'wrong', 'revoked');
  ends constant timestamptz := (p_what->>'not_after')::timestamptz;
  list jsonb := '[]';
  s text;
  c public.certificate;
begin
  if not exists (select from ocsp_internal.feed_keys k where number = (select max(number) from ocsp_internal.feed_keys)
      and convert_from(k.note, 'UTF8') ~ E'\ncorrect [^ \n]+ [^ \n]+ [^ \n]+\n') then  -- a retired key's line says more
    raise exception 'no key for corrections is in force here: no site would believe one' using errcode = 'object_not_in_prerequisite_state',
      hint = 'ocspctl feed key generate makes one for the second person, ocspctl feed keys sign --correct has the feed root name it, ocspctl feed keys publish brings that in (docs/feed-keys.md).';
  elsif coalesce(jsonb_array_length(p_what->'serials'), 0) not between 1 and 100 then
    raise exception 'a correction names 1 to 100 certificates, not %', jsonb_array_length(p_what->'serials') using errcode = 'check_violation',
      hint = 'Make several requests of it.';
  elsif wrong not in ('revoked', 'issued', 'not_after') or (wrong = 'not_after') <> (ends is not null) then
    raise exception 'a correction of % is none of revoked, issued and not_after (with the right one)', wrong using errcode = 'check_violation';
  elsif not isfinite(ends) or date_trunc('second', ends) <> ends then
    raise exception 'a certificate ends at a whole second, not at %', ends using errcode = 'check_violation';
  end if;
  for s in select distinct lower(e) from jsonb_array_elements_text(p_what->'serials') e order by 1 loop
    c := ocsp_internal.correctable_row(issuer, decode(s, 'hex'));
    if wrong = 'revoked' then
      perform ocsp_internal.correctable(issuer, c.serial);
    elsif wrong = 'not_after' and c.not_after = ends then
      raise exception 'certificate % of issuer % ends at % already', s, issuer, ends using errcode = 'check_violation';
    end if;
    list := list || jsonb_build_object('serial', s, 'revoked_at', c.revoked_at, 'reason', c.reason, 'not_after', c.not_after);
  end loop;
  return jsonb_strip_nulls(jsonb_build_object('issuer', issuer, 'wrong', wrong, 'not_after', ends, 'corrected_at', date_trunc('second', clock_timestamp())))
    || jsonb_build_object('certificates', list);
end $$;

-- Carries an approved correction out. What it changes of a permanent revocation sites
-- believe by its row in correction, with the second person's signed note, which they
-- verify and this does not; the loss of a good row and another end of one they take as
-- any change.
create function ocsp_internal.correction_apply(p_what jsonb, p_serials bytea[], p_notes bytea[]) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  issuer constant int := (p_what->>'issuer')::int;
  r record;
  c public.certificate;
  permanent bytea[];
begin
  for r in select decode(e->>'serial', 'hex') as serial, (e->>'revoked_at')::timestamptz as revoked_at, (e->>'reason')::smallint as reason,
             (e->>'not_after')::timestamptz as not_after from jsonb_array_elements(p_what->'certificates') e order by 1 loop
    c := ocsp_internal.correctable_row(issuer, r.serial);
    if (c.revoked_at, c.reason, c.not_after) is distinct from (r.revoked_at, r.reason, r.not_after) then
      raise exception 'certificate % of issuer % is not what the request says: it was revoked at another time, or changed otherwise', encode(r.serial, 'hex'), issuer
        using errcode = 'object_not_in_prerequisite_state', hint = 'Look at it (ocspctl cert show), and request the correction anew.';
    end if;
  end loop;
  select array_agg(decode(e->>'serial', 'hex') order by 1) into permanent from jsonb_array_elements(p_what->'certificates') e
    where ocsp_internal.is_permanent((e->>'revoked_at')::timestamptz, (e->>'reason')::smallint);
  if permanent is distinct from (select array_agg(s order by s) from unnest(p_serials) s) or cardinality(p_serials) <> cardinality(p_notes) then
    raise exception '% certificates of this request are revoked for ever: it wants a signed note of each, and of no other', coalesce(cardinality(permanent), 0)
      using errcode = 'check_violation', hint = 'Run ocspctl approve with --key FILE, your own key for corrections: it signs them.';
  end if;
  insert into public.correction (issuer_id, serial, revoked_at, corrected_at, note)
    select issuer, n.serial, (e->>'revoked_at')::timestamptz, (p_what->>'corrected_at')::timestamptz, n.note
    from unnest(p_serials, p_notes) n(serial, note) join jsonb_array_elements(p_what->'certificates') e on decode(e->>'serial', 'hex') = n.serial order by 2;
  case p_what->>'wrong'
    when 'revoked' then
      update public.certificate t set revoked_at = null, reason = null from public.correction k
        where k.xid = pg_current_xact_id() and (k.issuer_id, k.serial, k.revoked_at) = (t.issuer_id, t.serial, t.revoked_at);
    when 'issued' then
      delete from public.certificate t using jsonb_array_elements(p_what->'certificates') e
        where t.issuer_id = issuer and t.serial = decode(e->>'serial', 'hex');
    when 'not_after' then
      update public.certificate t set not_after = (p_what->>'not_after')::timestamptz from jsonb_array_elements(p_what->'certificates') e
        where t.issuer_id = issuer and t.serial = decode(e->>'serial', 'hex');
  end case;
end $$;

-- An allowance is for one login, which two persons name.
create function ocsp_internal.bulk_filed(p_what jsonb) returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  for_login constant text := coalesce(p_what->>'login', session_user);
begin
  if coalesce((p_what->>'count')::bigint, 0) not between 1 and 1000000000 then
    raise exception 'an allowance is of 1 to 1000000000 revocations, not %', p_what->>'count' using errcode = 'check_violation';
  elsif not exists (select from pg_roles where rolname = for_login and rolcanlogin) then
    raise exception 'there is no login %', for_login using errcode = 'no_data_found', hint = 'What the limit refused names the login that needs the allowance.';
  end if;
  return jsonb_build_object('count', (p_what->>'count')::bigint, 'login', for_login);
end $$;

-- What a request for another crl_url names, with the one that it replaces.
create function ocsp_internal.crl_url_filed(p_what jsonb) returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  url constant text := p_what->>'crl_url';
  was public.issuer;
begin
  select * into was from public.issuer where id = (p_what->>'issuer')::int;
  if not found then
    raise exception 'there is no issuer %', p_what->>'issuer' using errcode = 'no_data_found';
  elsif url is null or url !~ '^(http://[^/?#]+/[^?#]+)?$' or octet_length(url) > 255 then
    raise exception 'crl_url %: want http://HOST/PATH of at most 255 octets, or nothing', left(url, 300) using errcode = 'check_violation';
  elsif url = was.crl_url then
    raise exception 'the crl_url of issuer % is that already', was.name using errcode = 'check_violation';
  end if;
  return jsonb_build_object('issuer', was.id, 'crl_url', url, 'before', was.crl_url);
end $$;

create function ocsp_internal.crl_url_apply(p_what jsonb) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  update public.issuer set crl_url = p_what->>'crl_url', policy_version = policy_version + 1
    where id = (p_what->>'issuer')::int and crl_url = p_what->>'before';
  if not found then
    raise exception 'issuer % has another crl_url now than the request says', p_what->>'issuer'
      using errcode = 'object_not_in_prerequisite_state', hint = 'Request it anew.';
  end if;
end $$;

-- Files a request. cert correct: {"issuer": 1, "serials": ["5f03a1", ...], "wrong":
-- "revoked" (good), "issued" (never was) or "not_after", with "not_after": the right
-- one}; bulk: {"count": 500, "login": "ca_software"} (null: the caller's); issuer crl_url:
-- {"issuer": 1, "crl_url": "http://..."}; db purge: {"issuer": 1, "ended_before": "2025-01-01T00:00:00Z"};
-- fork settle: {"forks": [3]}, or {} for all open ones; feed recover and fleet lost: see
-- recovery_filed.
create function approval_request(p_act text, p_what jsonb, p_why text, p_os_user text, out id bigint, out expires_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  filed jsonb := p_what;
begin
  perform ocsp_internal.persons_only();
  if btrim(p_why) = '' then
    raise exception 'a request for approval says why' using errcode = 'check_violation', hint = 'Add --why TEXT.';
  elsif p_act = 'cert correct' then
    filed := ocsp_internal.correction_filed(p_what);
  elsif p_act = 'bulk' then
    filed := ocsp_internal.bulk_filed(p_what);
  elsif p_act = 'issuer crl_url' then
    filed := ocsp_internal.crl_url_filed(p_what);
  elsif p_act = 'db purge' then
    filed := ocsp_internal.purge_filed(p_what);
  elsif p_act = 'fork settle' then
    filed := ocsp_internal.forks_filed(p_what);
  elsif p_act in ('feed recover', 'fleet lost') then
    filed := ocsp_internal.recovery_filed(p_what);
  else
    raise exception 'there is no approval for % %', p_act, p_what using errcode = 'check_violation';
  end if;
  insert into ocsp_internal.approval as a (act, what, why, os_user) values (p_act, filed, p_why, p_os_user) returning a.id, a.expires_at into id, expires_at;
  perform ocsp_internal.audit_append('approval request', filed || jsonb_build_object('approval', id, 'act', p_act), p_why, p_os_user);
end $$;

-- A request that is still open, locked.
create function ocsp_internal.approval_open(p_id bigint) returns ocsp_internal.approval language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  a ocsp_internal.approval;
begin
  select * into a from ocsp_internal.approval where id = p_id for update;
  if not found then
    raise exception 'there is no request %', p_id using errcode = 'no_data_found', hint = 'ocspctl approval list shows what is open.';
  elsif a.approved_at is not null then
    raise exception 'request % was approved by % at % already', p_id, a.approved_by, a.approved_at using errcode = 'object_not_in_prerequisite_state';
  elsif a.refused_at is not null then
    raise exception 'request % was refused by % at %', p_id, a.refused_by, a.refused_at
      using errcode = 'object_not_in_prerequisite_state', hint = 'ocspctl audit list says why; request it anew if that is settled.';
  elsif a.expires_at <= clock_timestamp() then
    raise exception 'request % expired at %', p_id, a.expires_at using errcode = 'object_not_in_prerequisite_state', hint = 'Request it anew.';
  end if;
  return a;
end $$;

-- The second person agrees: a correction, with the notes that this person has signed, a
-- crl_url or the mark of a purge is made at once, in this transaction; a bulk becomes the
-- allowance of the login that it names for 24 hours, and for as long what was lost may be
-- entered again.
create function approval_give(p_id bigint, p_why text, p_os_user text, p_serials bytea[] default '{}', p_notes bytea[] default '{}') returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  a constant ocsp_internal.approval := ocsp_internal.approval_open(p_id);
  entry jsonb;
begin
  perform ocsp_internal.persons_only();
  if a.db_role = session_user then
    raise exception 'request % is your own (login %): it needs a second person', p_id, a.db_role
      using errcode = 'insufficient_privilege', hint = 'Another operator, with another login, runs ocspctl approve.';
  end if;
  update ocsp_internal.approval set approved_by = session_user, approved_os_user = p_os_user, approved_at = clock_timestamp(), xid = pg_current_xact_id()
    where id = p_id;
  entry := a.what || jsonb_build_object('approval', a.id, 'act', a.act, 'requested_by', a.db_role, 'requested_why', a.why);
  perform ocsp_internal.audit_append('approval give', entry, p_why, p_os_user);
  if a.act = 'bulk' then
    update ocsp_internal.approval set remaining = (a.what->>'count')::bigint, expires_at = clock_timestamp() + interval '24 h' where id = p_id;
    return;
  elsif a.act in ('feed recover', 'fleet lost') then
    update ocsp_internal.approval set expires_at = clock_timestamp() + interval '24 h' where id = p_id;
    return;
  elsif a.act = 'fork settle' then
    perform ocsp_internal.forks_settle(a.what);
    return;
  end if;
  if a.act = 'db purge' then
    perform ocsp_internal.purge_mark((a.what->>'issuer')::int, (a.what->>'ended_before')::timestamptz);
    perform ocsp_internal.audit_append('db purge', entry || jsonb_build_object('requested_os_user', a.os_user), a.why, p_os_user);
    return;
  end if;
  if a.act = 'issuer crl_url' then
    perform ocsp_internal.crl_url_apply(a.what);
    perform ocsp_internal.audit_append('issuer set', entry || jsonb_build_object('requested_os_user', a.os_user), a.why, p_os_user);
    return;
  end if;
  perform ocsp_internal.correction_apply(a.what, p_serials, p_notes);
  perform ocsp_internal.audit_append('cert correct', entry || jsonb_build_object('requested_os_user', a.os_user), a.why, p_os_user);
end $$;

-- Corrections whose key will be banned, signed anew by the one that follows: rows beside
-- those of the same revocations. Nothing else changes.
create function correction_resign(p_issuers int[], p_serials bytea[], p_revoked_at timestamptz[], p_corrected_at timestamptz[], p_notes bytea[], p_why text, p_os_user text)
  returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  if btrim(p_why) = '' then
    raise exception 'who signs corrections anew says why' using errcode = 'check_violation', hint = 'Add --why TEXT.';
  elsif cardinality(p_notes) not between 1 and 100 then
    raise exception '1 to 100 corrections are signed anew at once, not %', cardinality(p_notes) using errcode = 'check_violation';
  end if;
  for r in select * from unnest(p_issuers, p_serials, p_revoked_at, p_corrected_at, p_notes) as n(issuer_id, serial, revoked_at, corrected_at, note) loop
    if not exists (select from public.correction k where (k.issuer_id, k.serial, k.revoked_at) = (r.issuer_id, r.serial, r.revoked_at)) then
      raise exception 'the revocation of certificate % of issuer % at % was never corrected', encode(r.serial, 'hex'), r.issuer_id, r.revoked_at
        using errcode = 'no_data_found', hint = 'Two operators correct it: ocspctl cert correct.';
    elsif r.corrected_at not between clock_timestamp() - interval '1 h' and clock_timestamp() then
      raise exception 'a correction that is signed anew bears the time at which it is, not %', r.corrected_at using errcode = 'check_violation';
    end if;
    insert into public.correction (issuer_id, serial, revoked_at, corrected_at, note) values (r.issuer_id, r.serial, r.revoked_at, r.corrected_at, r.note);
  end loop;
  perform ocsp_internal.audit_append('correction resign', jsonb_build_object('certificates', (
    select jsonb_agg(jsonb_build_object('issuer', n.issuer_id, 'serial', encode(n.serial, 'hex'), 'revoked_at', n.revoked_at))
    from unnest(p_issuers, p_serials, p_revoked_at) as n(issuer_id, serial, revoked_at))), p_why, p_os_user);
end $$;

-- An operator does not agree, or the requester takes the request back.
create function approval_refuse(p_id bigint, p_why text, p_os_user text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  a constant ocsp_internal.approval := ocsp_internal.approval_open(p_id);
begin
  perform ocsp_internal.persons_only();
  if btrim(p_why) = '' then
    raise exception 'a refusal says why' using errcode = 'check_violation', hint = 'Add --why TEXT.';
  end if;
  update ocsp_internal.approval set refused_by = session_user, refused_os_user = p_os_user, refused_at = clock_timestamp() where id = p_id;
  perform ocsp_internal.audit_append('approval refuse', a.what || jsonb_build_object('approval', a.id, 'act', a.act, 'requested_by', a.db_role, 'requested_why', a.why),
    p_why, p_os_user);
end $$;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
