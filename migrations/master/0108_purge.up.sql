-- Purge: certificates that ended long ago may go, issuer by issuer, by decision.
set role ocsp_owner;

-- Up to where an issuer was purged. A request for one of its absent serials is answered
-- unauthorized (RFC 9919 section 3.2.3): a site cannot tell purged from never issued.
create table ocsp_internal.purge (
  issuer_id int primary key,  -- of issuer; no foreign key, so that an operator may empty the replicated tables
  before    timestamptz not null check (isfinite(before))
);

create function ocsp_internal.issuer_purge_guard() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_relid <> 'public.issuer'::regclass then
    perform ocsp_internal.refuse_table(tg_relid);
  end if;
  if new.never_issued <> 'unauthorized' and exists (select from ocsp_internal.purge where issuer_id = new.id) then
    raise exception 'issuer % is purged: never_issued cannot be %', new.id, new.never_issued using errcode = 'check_violation',
      hint = 'A purged serial would be taken for one that was never issued.';
  elsif new.archive_cutoff and exists (select from ocsp_internal.purge where issuer_id = new.id) then
    raise exception 'issuer % is purged: it cannot say that status is kept for ever', new.id using errcode = 'check_violation',
      hint = 'Leave archive_cutoff off.';
  end if;
  return new;
end $$;
create trigger purge_guard before insert or update on issuer for each row execute function ocsp_internal.issuer_purge_guard();

-- Whether an issuer's mark may be moved, with the issuer locked. A site lets a permanent
-- revocation go a day after the end; another is left for sites that are behind.
create function ocsp_internal.purge_filed(p_what jsonb) returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  ends constant timestamptz := (p_what->>'ended_before')::timestamptz;
  i public.issuer;
  was timestamptz;
begin
  select * into i from public.issuer where id = (p_what->>'issuer')::int for no key update;
  if not found then
    raise exception 'there is no issuer %', p_what->>'issuer' using errcode = 'no_data_found';
  elsif ends is null or not isfinite(ends) or ends > (select as_of - interval '2 d' from public.feed_head) then
    raise exception 'a purge before % is too late: it must lie two days before the head''s as_of', ends using errcode = 'check_violation';
  elsif i.never_issued = 'revoked' then
    raise exception 'issuer % says revoked for serials that it never issued: it cannot be purged', i.name using errcode = 'check_violation',
      hint = 'Purged certificates would become revoked.';
  elsif i.archive_cutoff then
    raise exception 'issuer % promises in its answers that status is kept for ever: it cannot be purged', i.name using errcode = 'check_violation',
      hint = 'ocspctl issuer set --archive-cutoff=false takes the promise back.';
  end if;
  select before into was from ocsp_internal.purge where issuer_id = i.id;
  if ends <= was then
    raise exception 'issuer % was purged up to % already', i.name, was using errcode = 'check_violation';
  end if;
  return jsonb_build_object('issuer', i.id, 'ended_before', ends);
end $$;

-- Moves the mark, once two persons agree; the head's says what is the latest of all. The
-- issuer is locked first, the head last, as at COMMIT.
create function ocsp_internal.purge_mark(p_issuer int, p_before timestamptz) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform ocsp_internal.purge_filed(jsonb_build_object('issuer', p_issuer, 'ended_before', p_before));
  insert into ocsp_internal.purge values (p_issuer, p_before) on conflict (issuer_id) do update set before = excluded.before;
  update public.issuer set never_issued = 'unauthorized', policy_version = policy_version + 1 where id = p_issuer and never_issued <> 'unauthorized';
  update public.feed_head set purge_before = greatest(purge_before, p_before);
end $$;

-- Deletes some of what an issuer's mark lets go, and says how many. Responder
-- certificates stay: their rows name the sites.
create function purge_batch(p_issuer int, p_limit int, p_why text, p_os_user text) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  mark timestamptz;
  n bigint;
begin
  select before into mark from ocsp_internal.purge where issuer_id = p_issuer;
  if mark is null then
    raise exception 'issuer % is not to be purged', p_issuer using errcode = 'object_not_in_prerequisite_state', hint = 'ocspctl db purge asks for it; another person approves.';
  elsif p_limit is null or p_limit not between 1 and 10000 then
    raise exception 'a batch of % rows: want 1 to 10000', p_limit using errcode = 'invalid_parameter_value';
  end if;
  delete from public.certificate c where c.issuer_id = p_issuer and c.serial in (
    select k.serial from public.purgeable(p_issuer, mark) k limit p_limit);
  get diagnostics n = row_count;
  if n > 0 then
    perform ocsp_internal.audit_append('db purge', jsonb_build_object('issuer', p_issuer, 'before', mark, 'rows', n), p_why, p_os_user);
  end if;
  return n;
end $$;

create function purgeable(p_issuer int, p_before timestamptz) returns table (serial bytea)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select c.serial from public.certificate c where c.issuer_id = p_issuer and c.not_after < p_before
    and not exists (select from public.responder_certificate r where (r.issuer_id, r.serial) = (c.issuer_id, c.serial))
    and not exists (select from ocsp_internal.responder_withheld r where (r.issuer_id, r.serial) = (c.issuer_id, c.serial))
    and not exists (select from ocsp_internal.responder_planned r where (r.issuer_id, r.serial) = (c.issuer_id, c.serial));
$$;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
