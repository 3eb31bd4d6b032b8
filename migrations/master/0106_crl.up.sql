-- The CRL of responder certificates.
set role ocsp_owner;

-- The numbers of CRLs: the last one taken, the one that was published, and the
-- head's position that its rows were read at.
create table ocsp_internal.crl_number (
  issuer_id int primary key,
  last      bigint not null,
  published bigint not null default 0,
  position  bigint not null default 0
);

-- CRLs that an offline CA was asked to sign and that were not published yet.
create table ocsp_internal.crl_planned (
  issuer_id   int not null,
  number      bigint not null,
  position    bigint not null,  -- of the head that its rows were read at
  this_update timestamptz not null,
  next_update timestamptz not null check (next_update > this_update),
  content     bytea not null check (octet_length(content) = 32),  -- SHA-256 of the entries that it is to have
  primary key (issuer_id, number)
);

-- Takes p_count numbers for CRLs and returns the first. RFC 5280 section 5.2.3 has them
-- grow for ever, and a counter alone would go back in a master that was restored from a
-- backup: so a number is never below the clock's milliseconds since 1970.
create function crl_next(p_issuer int, p_count int) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  clock constant bigint := floor(extract(epoch from clock_timestamp()) * 1000);
  first bigint;
begin
  if p_count is null or p_count not between 1 and 1000 then
    raise exception '% numbers at once: want 1 to 1000', p_count using errcode = 'invalid_parameter_value';
  end if;
  insert into ocsp_internal.crl_number as n (issuer_id, last) values (p_issuer, clock + p_count - 1)
    on conflict (issuer_id) do update set last = greatest(n.last + 1, clock) + p_count - 1
    returning n.last - p_count + 1 into first;
  return first;
end $$;

-- Records what an offline CA is asked to sign: only that is published later.
create function crl_plan(p_issuer int, p_number bigint, p_position bigint, p_this_update timestamptz, p_next_update timestamptz, p_content bytea,
    p_entries int, p_why text, p_os_user text) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_number > coalesce((select last from ocsp_internal.crl_number where issuer_id = p_issuer), 0) then
    raise exception 'number % of a CRL of issuer % was not taken', p_number, p_issuer using errcode = 'check_violation';
  end if;
  insert into ocsp_internal.crl_planned values (p_issuer, p_number, p_position, p_this_update, p_next_update, p_content);
  perform ocsp_internal.audit_append('crl bundle', jsonb_build_object('issuer', p_issuer, 'number', p_number, 'entries', p_entries,
    'this_update', p_this_update, 'content', encode(p_content, 'hex')), p_why, p_os_user);
end $$;

-- Publishes a CRL. One whose rows were read before those of the published one, or
-- that has a lower number, is refused: it might take an entry back.
create function crl_put(p_issuer int, p_number bigint, p_position bigint, p_der bytea, p_entries int, p_why text, p_os_user text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update ocsp_internal.crl_number n set published = p_number, position = p_position
    where n.issuer_id = p_issuer and p_number <= n.last and p_number > n.published and p_position >= n.position;
  if not found then
    raise exception 'a newer CRL of issuer % was published meanwhile', p_issuer using errcode = 'object_not_in_prerequisite_state', hint = 'Run ocspctl crl issue again.';
  end if;
  delete from ocsp_internal.crl_planned c where c.issuer_id = p_issuer and (c.number <= p_number or c.position < p_position);
  update public.issuer set crl = p_der where id = p_issuer;
  perform ocsp_internal.audit_append('crl issue', jsonb_build_object('issuer', p_issuer, 'number', p_number, 'entries', p_entries,
    'sha256', encode(sha256(p_der), 'hex')), p_why, p_os_user);
end $$;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
