-- What people and the CA's software may do, each with its audit entry in the
-- same transaction. SECURITY DEFINER: the callers have no right to the tables.
-- p_os_user is what the client says of itself; db_role in the audit is proven.
set role ocsp_owner;

-- The epoch names this history: a master set up anew never continues an old one.
create function ocsp_internal.head_init(p_epoch bigint) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.feed_head) then
    raise exception 'this master has a head already' using errcode = 'object_not_in_prerequisite_state';
  end if;
  insert into public.feed_head values (1, p_epoch, 0, date_trunc('milliseconds', clock_timestamp()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null, 0, sha256(''));
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

create function ocsp_internal.note(p_act text, p_what jsonb, p_why text, p_os_user text) returns void
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  insert into ocsp_internal.audit (os_user, act, what, why) values (p_os_user, p_act, p_what, p_why);
$$;

create function issuer_add(p_key_hash bytea, p_name text, p_certificate bytea, p_validity int, p_backdate int, p_max_staleness int,
    p_fresh_for_unknown int, p_http_max_age int, p_refresh int, p_never_issued text, p_profile text, p_crl_url text, p_archive_cutoff boolean,
    p_why text, p_os_user text) returns int
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  new_id int;
begin
  lock table public.issuer in share row exclusive mode;
  select coalesce(max(id), 0) + 1 into new_id from public.issuer;
  insert into public.issuer values (new_id, p_key_hash, p_name, p_certificate, p_validity, p_backdate, p_max_staleness,
    p_fresh_for_unknown, p_http_max_age, p_never_issued, p_profile, p_crl_url, 1, '', p_refresh, p_archive_cutoff);
  perform ocsp_internal.note('issuer add', jsonb_build_object('id', new_id, 'name', p_name, 'key_hash', encode(p_key_hash, 'hex')), p_why, p_os_user);
  return new_id;
end $$;

-- Changes an issuer's certificate (of the same key) and policy; false: it was so
-- already. p_version is the policy that the caller saw: the plan that somebody read is
-- what is done, or nothing is. Whose rows travel learn of it with the issuer's.
create function issuer_set(p_issuer int, p_version bigint, p_certificate bytea, p_validity int, p_backdate int, p_max_staleness int,
    p_fresh_for_unknown int, p_http_max_age int, p_refresh int, p_never_issued text, p_profile text, p_crl_url text, p_archive_cutoff boolean,
    p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  was public.issuer;
  now_is public.issuer;
  changes jsonb;
begin
  select * into was from public.issuer where id = p_issuer for no key update;
  if not found then
    raise exception 'there is no issuer %', p_issuer using errcode = 'no_data_found';
  elsif was.policy_version <> p_version then
    raise exception 'issuer % was changed meanwhile (policy version %, not %)', was.name, was.policy_version, p_version
      using errcode = 'object_not_in_prerequisite_state', hint = 'Look at the plan anew.';
  elsif p_profile = 'br' and was.profile <> 'br' and exists (
      select from public.certificate where issuer_id = p_issuer and reason = 6) then
    raise exception 'issuer % has certificates on hold, which profile br forbids (BR 4.9.13)', was.name using errcode = 'check_violation',
      hint = 'Release or revoke them first (ocspctl cert list --status hold); restore or revoke suspended sites.';
  end if;
  now_is := was;
  now_is.certificate := p_certificate;
  now_is.validity := p_validity;
  now_is.backdate := p_backdate;
  now_is.max_staleness := p_max_staleness;
  now_is.fresh_for_unknown := p_fresh_for_unknown;
  now_is.http_max_age := p_http_max_age;
  now_is.refresh := p_refresh;
  now_is.never_issued := p_never_issued;
  now_is.profile := p_profile;
  now_is.crl_url := p_crl_url;
  now_is.archive_cutoff := p_archive_cutoff;
  select jsonb_object_agg(n.key, jsonb_build_array(o.value, n.value)) into changes
    from jsonb_each(to_jsonb(now_is) - 'crl' || jsonb_build_object('certificate', encode(sha256(p_certificate), 'hex'))) n
    join jsonb_each(to_jsonb(was) - 'crl' || jsonb_build_object('certificate', encode(sha256(was.certificate), 'hex'))) o using (key)
    where n.value <> o.value;
  if changes is null then
    return false;
  end if;
  update public.issuer set certificate = p_certificate, validity = p_validity, backdate = p_backdate, max_staleness = p_max_staleness,
    fresh_for_unknown = p_fresh_for_unknown, http_max_age = p_http_max_age, refresh = p_refresh, never_issued = p_never_issued,
    profile = p_profile, crl_url = p_crl_url, archive_cutoff = p_archive_cutoff, policy_version = policy_version + 1 where id = p_issuer;
  perform ocsp_internal.note('issuer set', jsonb_build_object('id', p_issuer, 'name', was.name, 'changes', changes), p_why, p_os_user);
  return true;
end $$;

-- Registers a certificate, before it is signed (a pre-certificate counts). True:
-- new; false: it was there with the same end already.
create function certificate_issue(p_issuer int, p_serial bytea, p_not_after timestamptz, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  there timestamptz;
begin
  if ocsp_internal.site_of(p_issuer, p_serial) is not null then
    raise exception 'serial % of issuer % is site %''s own', encode(p_serial, 'hex'), p_issuer, ocsp_internal.site_of(p_issuer, p_serial) using errcode = 'unique_violation',
      hint = 'Issue with another serial.';
  end if;
  insert into public.certificate (issuer_id, serial, not_after) values (p_issuer, p_serial, p_not_after) on conflict do nothing;
  if not found then
    select not_after into there from public.certificate where issuer_id = p_issuer and serial = p_serial;
    if there is distinct from p_not_after then
      raise exception 'serial % of issuer % is issued already, with another end of validity (%)', encode(p_serial, 'hex'), p_issuer, there
        using errcode = 'unique_violation';
    end if;
    return false;
  end if;
  perform ocsp_internal.note('cert issue', jsonb_build_object('issuer', p_issuer, 'serial', encode(p_serial, 'hex'), 'not_after', p_not_after), p_why, p_os_user);
  return true;
end $$;

-- Revocations by this transaction that clients will see, for the hourly limit,
-- which is looked at under the head's lock at COMMIT: of certificates that the caller
-- issued within the hour (p_own), and of others.
create function ocsp_internal.limit_note(p_others bigint, p_own bigint) returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
  select ocsp_internal.change_noted('l', p_others, 0, 0) where p_others > 0;
  select ocsp_internal.change_noted('o', p_own, 0, 0) where p_own > 0;
$$;

-- What a statement about a certificate does to what is said here; here_not_after null:
-- nothing is said. Every change of a status asks this one, and it never takes a
-- revocation back. Silent: the statement proves that it was issued, and says no more.
-- The words are db.Effect's, and those of ocspctl's JSON.
create function ocsp_internal.certificate_effect(here_not_after timestamptz, here_revoked_at timestamptz, here_reason smallint,
    not_after timestamptz, revoked_at timestamptz, reason smallint, silent boolean) returns text language sql immutable parallel safe
  return case
    when here_not_after is null then case when not_after is null then 'no_not_after' else 'new' end
    when not_after <> here_not_after then 'other_not_after'
    when silent or (revoked_at is null and here_revoked_at is null) then 'same'
    when here_revoked_at is null then 'revoke'
    when not ocsp_internal.is_permanent(here_revoked_at, here_reason) and ocsp_internal.is_permanent(revoked_at, reason) then 'hold_to_permanent'
    when ocsp_internal.is_permanent(here_revoked_at, here_reason) and not ocsp_internal.is_permanent(revoked_at, reason) or revoked_at is null then 'kept_revoked'
    when reason = 1 and here_reason is distinct from 1 then 'reason_to_key_compromise'
    when revoked_at <> here_revoked_at or reason is distinct from here_reason then 'other_time_or_reason'
    else 'same' end;

-- The effects that write.
create function ocsp_internal.writes(effect text) returns boolean language sql immutable parallel safe
  return effect in ('new', 'revoke', 'hold_to_permanent', 'reason_to_key_compromise');

-- The revocation itself, past the limit.
create function ocsp_internal.certificate_revoke_row(p_act text, p_issuer int, p_serial bytea, p_reason smallint, p_revoked_at timestamptz, p_why text, p_os_user text)
  returns table (revoked_at timestamptz, reason smallint, changed boolean, was_good boolean, own boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  c public.certificate;
  effect text;
begin
  select * into c from public.certificate t where t.issuer_id = p_issuer and t.serial = p_serial for no key update;
  if not found then
    raise exception 'serial % of issuer % was never issued', encode(p_serial, 'hex'), p_issuer using errcode = 'no_data_found';
  end if;
  own := (select ocsp_internal.issued_by_me(t.xmin) from public.certificate t where t.issuer_id = p_issuer and t.serial = p_serial);
  revoked_at := coalesce(date_trunc('second', p_revoked_at), c.revoked_at, date_trunc('second', clock_timestamp()));
  reason := p_reason;
  effect := ocsp_internal.certificate_effect(c.not_after, c.revoked_at, c.reason, c.not_after, revoked_at, reason, false);
  was_good := effect = 'revoke';
  changed := ocsp_internal.writes(effect);
  if not changed or effect = 'reason_to_key_compromise' then
    revoked_at := c.revoked_at;
  end if;
  if changed then
    update public.certificate t set revoked_at = certificate_revoke_row.revoked_at, reason = p_reason where t.issuer_id = p_issuer and t.serial = p_serial
      returning t.revoked_at into revoked_at;  -- a time that was taken back before is another second
    perform ocsp_internal.note(p_act, jsonb_build_object('issuer', p_issuer, 'serial', encode(p_serial, 'hex'),
      'revoked_at', revoked_at, 'reason', p_reason) || case effect when 'reason_to_key_compromise' then jsonb_build_object('reason_before', c.reason) else '{}' end,
      p_why, p_os_user);
  else
    reason := c.reason;
  end if;
  return next;
end $$;

-- Revokes; reason null: none given. Revoking what is revoked changes nothing
-- (changed = false: the row says since when and why), except that a hold becomes
-- permanent, and that keyCompromise replaces another reason; the time stays.
create function certificate_revoke(p_issuer int, p_serial bytea, p_reason smallint, p_revoked_at timestamptz, p_why text, p_os_user text)
  returns table (revoked_at timestamptz, reason smallint, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  select * into r from ocsp_internal.certificate_revoke_row('cert revoke', p_issuer, p_serial, p_reason, p_revoked_at, p_why, p_os_user);
  perform ocsp_internal.limit_note((not r.own)::int, r.own::int) where r.changed and r.was_good;
  return query select r.revoked_at, r.reason, r.changed;
end $$;

-- Revokes for a time. What is on hold stays so (changed = false).
create function certificate_hold(p_issuer int, p_serial bytea, p_why text, p_os_user text)
  returns table (revoked_at timestamptz, changed boolean) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  select * into r from ocsp_internal.certificate_revoke_row('cert hold', p_issuer, p_serial, 6::smallint, null, p_why, p_os_user);
  if ocsp_internal.is_permanent(r.revoked_at, r.reason) then
    raise exception 'certificate % of issuer % is revoked for ever (since %): it cannot be put on hold', encode(p_serial, 'hex'), p_issuer, r.revoked_at
      using errcode = 'integrity_constraint_violation';
  end if;
  perform ocsp_internal.limit_note((not r.own)::int, r.own::int) where r.changed;
  return query select r.revoked_at, r.changed;
end $$;

-- Ends a hold, and nothing but a hold. False: it was good already.
create function certificate_release(p_issuer int, p_serial bytea, p_why text, p_os_user text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  c public.certificate;
begin
  select * into c from public.certificate t where t.issuer_id = p_issuer and t.serial = p_serial for no key update;
  if not found then
    raise exception 'serial % of issuer % was never issued', encode(p_serial, 'hex'), p_issuer using errcode = 'no_data_found';
  end if;
  if c.revoked_at is null then
    return false;
  end if;
  if ocsp_internal.is_permanent(c.revoked_at, c.reason) then
    raise exception 'certificate % of issuer % is revoked for ever (since %): only a hold is released', encode(p_serial, 'hex'), p_issuer, c.revoked_at
      using errcode = 'integrity_constraint_violation', hint = 'A revocation that was wrong is taken back by two operators: ocspctl cert correct.';
  end if;
  update public.certificate t set revoked_at = null, reason = null where t.issuer_id = p_issuer and t.serial = p_serial;
  perform ocsp_internal.note('cert release', jsonb_build_object('issuer', p_issuer, 'serial', encode(p_serial, 'hex'), 'held_since', c.revoked_at), p_why, p_os_user);
  return true;
end $$;

-- Whether a slot brings a site the signed files: its number begins with 0. The site's slot
-- for the rows, whose number is a time, is another one: files hold up nobody.
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
create function ocsp_internal.slot_programs() returns table (slot text, program text) language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.slot_name::text, r.application_name from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
    where s.slot_type = 'logical' and s.database = current_database();
$$;

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
  perform ocsp_internal.responder_claim('login', replace(p_name, '-', '_'), p_name);  -- its login, unless another is named
  if changed then
    perform ocsp_internal.note('responder add', jsonb_build_object('site', p_name, 'url', p_url, 'addresses', p_addresses), p_why, p_os_user);
  end if;
  return changed;
end $$;

-- Only what was planned, with this very key: so it is nobody else's serial.
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
  perform ocsp_internal.note('responder certificate add', jsonb_build_object('site', p_site, 'issuer', p_issuer, 'serial', encode(p_serial, 'hex'),
    'key_hash', encode(p_key_hash, 'hex'), 'fingerprint', encode(sha256(p_der), 'hex')), p_why, p_os_user);
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
  grant pg_read_all_stats to ocsp_publisher;  -- to name who blocks the head
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

-- Nothing of ours is everybody's: rights.txt says what each role may (package migrations).
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
