-- The rules of a status change, enforced by triggers, whatever writes the row.
set role ocsp_owner;

-- Which transaction made a correction: only that one may change the certificate.
-- It is the master's own; the publication names its columns.
alter table correction add column xid xid8 not null default pg_current_xact_id();

-- Whether this very transaction corrects a permanent revocation, approved by two persons.
create function ocsp_internal.corrected_now(p_issuer int, p_serial bytea, p_revoked_at timestamptz) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  return exists (select from public.correction k where (k.issuer_id, k.serial, k.revoked_at, k.xid) = (p_issuer, p_serial, p_revoked_at, pg_current_xact_id()))
    and exists (select from ocsp_internal.approval a where a.xid = pg_current_xact_id() and a.act = 'cert correct');
end $$;

-- Two clocks of the fleet may differ by so much (MaxClockSkew in Go).
create function ocsp_internal.max_clock_skew() returns interval language sql immutable parallel safe return interval '5 min';

alter table certificate add constraint certificate_ends_too_late check (not_after < '10000-01-01 00:00Z');

-- Profile br allows no hold (BR section 4.9.13), whichever program writes the row.
create function ocsp_internal.allows_hold(p_issuer int) returns boolean language sql stable
  return (select profile <> 'br' from public.issuer where id = p_issuer);

create function ocsp_internal.certificate_hold_guard() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if not ocsp_internal.allows_hold(new.issuer_id) then
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

-- A revocation that was taken back never comes again: sites would refuse it. A new
-- revocation of the certificate for that very second is moved to the next free one.
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

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
