-- Issuers and certificates: what staff and the CA's software may do, each with its audit
-- entry in the same transaction. SECURITY DEFINER: the callers have no right to the tables.
-- p_os_user is what the client says of itself; db_role in the audit is proven.
set role ocsp_owner;

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
  perform ocsp_internal.audit_append('issuer add', jsonb_build_object('id', new_id, 'name', p_name, 'key_hash', encode(p_key_hash, 'hex')), p_why, p_os_user);
  return new_id;
end $$;

-- Changes an issuer's certificate (of the same key) and policy; false: it was so
-- already. p_version is the policy that the caller saw: either the plan that the caller
-- read is done, or nothing is. Sites get the change with the issuer's row.
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
  perform ocsp_internal.audit_append('issuer set', jsonb_build_object('id', p_issuer, 'name', was.name, 'changes', changes), p_why, p_os_user);
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
  perform ocsp_internal.audit_append('cert issue', jsonb_build_object('issuer', p_issuer, 'serial', encode(p_serial, 'hex'), 'not_after', p_not_after), p_why, p_os_user);
  return true;
end $$;

-- Revocations by this transaction that clients will see, for the hourly limit,
-- which is looked at under the head's lock at COMMIT: of certificates that the caller
-- issued within the hour (p_own), and of others.
create function ocsp_internal.limit_add(p_others bigint, p_own bigint) returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
  select ocsp_internal.pending_change_add('revoked', p_others, 0, 0, false) where p_others > 0;
  select ocsp_internal.pending_change_add('revoked_own', p_own, 0, 0, false) where p_own > 0;
$$;

-- What a statement about a certificate does to what is said here; here_not_after null:
-- nothing is said. Every change of a status asks this one, and it never takes a
-- revocation back. Silent: the statement proves that it was issued, and says no more.
-- ocspctl's JSON has the same words.
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
    perform ocsp_internal.audit_append(p_act, jsonb_build_object('issuer', p_issuer, 'serial', encode(p_serial, 'hex'),
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
  perform ocsp_internal.limit_add((not r.own)::int, r.own::int) where r.changed and r.was_good;
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
  perform ocsp_internal.limit_add((not r.own)::int, r.own::int) where r.changed;
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
  perform ocsp_internal.audit_append('cert release', jsonb_build_object('issuer', p_issuer, 'serial', encode(p_serial, 'hex'), 'held_since', c.revoked_at), p_why, p_os_user);
  return true;
end $$;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
