-- The rows that every replica holds, and the roles of the fleet.
-- Applied at the master and at every site; what only one of them needs lies in
-- migrations/master and migrations/site. Run as a superuser.

do $$
declare r text;
begin
  -- Group roles: people and daemons log in as members of them (ocspctl db user).
  -- Roles belong to the whole cluster: another database may have made them, now.
  foreach r in array array['ocsp_owner', 'ocsp_responder', 'ocsp_sync', 'ocsp_ca',
                           'ocsp_operator', 'ocsp_publisher', 'ocsp_replica', 'ocsp_subscriber'] loop
    begin
      execute format('create role %I nologin', r);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;
end $$;

-- The replicated tables and the doors, the functions that are called from outside,
-- lie in public; everything else lies in ocsp_internal, tables that are read and pure
-- functions for recounts among it. A login has what rights.txt gives to its group, and no
-- more: it cannot even make a table of its own.
do $$
begin
  execute format('revoke all on database %I from public', current_database());
end $$;
revoke all on schema public from public;
grant usage, create on schema public to ocsp_owner;
create schema ocsp_internal authorization ocsp_owner;

set role ocsp_owner;

-- The rules of a status, each said once. In Go the same rules
-- are those of the types Serial and Status.

-- A serial that a certificate can have: the DER INTEGER content octets, minimal, not
-- negative, at most 20 (RFC 5280 section 4.1.2.2).
create function ocsp_internal.is_serial(serial bytea) returns boolean language sql immutable parallel safe
  return octet_length(serial) between 1 and 20 and get_byte(serial, 0) < 128
         and (octet_length(serial) = 1 or get_byte(serial, 0) <> 0 or get_byte(serial, 1) >= 128);

-- A time that a certificate has: zero dates are never real.
create function ocsp_internal.is_time(t timestamptz) returns boolean language sql stable parallel safe
  return isfinite(t) and t > '1971-01-01 00:00Z' and extract(microseconds from t)::int % 1000000 = 0;

-- A revocation that never becomes good or absent: all but certificateHold (RFC 5280
-- section 5.3.1).
create function ocsp_internal.is_permanent(revoked_at timestamptz, reason smallint) returns boolean language sql immutable parallel safe
  return revoked_at is not null and reason is distinct from 6;

-- One CA key under one name. Policy is data: every site answers alike.
create table issuer (
  id                int primary key check (id > 0),
  key_hash          bytea not null unique check (octet_length(key_hash) = 32),  -- SHA-256(subject DER || SPKI DER)
  name              text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  certificate       bytea not null check (octet_length(certificate) between 1 and 65535),  -- DER
  validity          int not null check (validity between 3600 and 864000),          -- seconds, here and below
  backdate          int not null check (backdate between 0 and 3600),
  max_staleness     int not null check (max_staleness between 60 and 864000 and max_staleness <= validity),
  fresh_for_unknown int not null check (fresh_for_unknown between 10 and max_staleness),
  http_max_age      int not null check (http_max_age between 0 and validity / 2),
  never_issued      text not null check (never_issued in ('unknown', 'revoked', 'unauthorized')),
  profile           text not null check (profile in ('revocable', 'br')),
  crl_url           text not null constraint issuer_crl_url_long check (octet_length(crl_url) <= 1024),
  policy_version    bigint not null check (policy_version > 0),
  -- The newest CRL of its responder certificates, DER; empty: none yet. One per
  -- issuer, so it travels with the issuer's row and stands in the same digest.
  crl               bytea not null default '' check (octet_length(crl) <= 65535),
  -- How far a signature that is kept may lag behind the copy; 0: signed at each new horizon.
  refresh           int not null default 900 check (refresh between 0 and 864000),
  -- Answers say that status is kept for ever: archiveCutoff (RFC 6960 section 4.4.4).
  archive_cutoff    boolean not null default false,
  -- BR 4.9.10: 8 h to 10 d; an answer of the oldest copy is still renewed in time:
  -- below 16 h before half of it is left, else 8 h before its end, 4 d after its begin.
  constraint issuer_br check (profile <> 'br' or (never_issued <> 'revoked' and validity between 28800 and 863999
    and backdate + max_staleness <= case when validity < 57600 then validity / 2 else least(validity - 28800, 345600) end))
);

-- One issued certificate. No personal data, ever.
create table certificate (
  issuer_id  int not null references issuer,
  serial     bytea not null check (ocsp_internal.is_serial(serial)),
  not_after  timestamptz not null check (ocsp_internal.is_time(not_after)),
  revoked_at timestamptz check (ocsp_internal.is_time(revoked_at)),
  reason     smallint check (reason in (1, 2, 3, 4, 5, 6, 9, 10)),
  primary key (issuer_id, serial),
  check (reason is null or revoked_at is not null)
);

-- Delegated OCSP certificates. Whether one is revoked says its row in certificate.
create table responder_certificate (
  fingerprint bytea primary key check (fingerprint = sha256(der)),
  issuer_id   int not null,
  serial      bytea not null,
  site        text not null check (site ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  key_hash    bytea not null check (octet_length(key_hash) = 32),  -- SHA-256(SPKI DER)
  der         bytea not null check (octet_length(der) between 1 and 65535),
  unique (issuer_id, serial),
  foreign key (issuer_id, serial) references certificate
);

-- A permanent revocation that was taken back because it was wrong: the only thing
-- that lets a copy believe that it is gone. Rows are added, never changed.
create table correction (
  issuer_id    int not null,
  serial       bytea not null check (octet_length(serial) between 1 and 20),
  revoked_at   timestamptz not null check (isfinite(revoked_at) and extract(microseconds from revoked_at)::int % 1000000 = 0),  -- the one taken back
  corrected_at timestamptz not null check (isfinite(corrected_at) and extract(microseconds from corrected_at)::int % 1000000 = 0),  -- requested
  note         bytea not null check (octet_length(note) between 1 and 1024),  -- signed by the second person (docs/feed.md): a site believes nothing else
  primary key (issuer_id, serial, revoked_at, corrected_at, note)
);

-- TLS keys of suspended and revoked sites, by their pins: what a relay lets in no more.
-- A site without certificates has no other mark among the rows.
create table closed_pin (
  pin bytea primary key check (octet_length(pin) = 32)  -- SHA-256(SPKI DER); these are its canonical bytes
);

-- The one head: every change of a replicated row is counted here in its own
-- transaction, so that any snapshot of any replica carries the digest it must have.
create table feed_head (
  id                           smallint primary key check (id = 1),
  epoch                        bigint not null,
  position                     bigint not null,
  as_of                        timestamptz not null,  -- the master's clock when it last confirmed this head
  certificate_count            bigint not null,
  certificate_digest           numeric(20) not null,  -- sum of row digests mod 2^64
  issuer_count                 bigint not null,
  issuer_digest                numeric(20) not null,
  responder_certificate_count  bigint not null,
  responder_certificate_digest numeric(20) not null,
  correction_count             bigint not null,
  correction_digest            numeric(20) not null,
  closed_pin_count             bigint not null,
  closed_pin_digest            numeric(20) not null,
  purge_before                 timestamptz,
  audit_count                  bigint not null,
  audit_hash                   bytea not null
) with (fillfactor = 10);  -- one row, updated for ever: HOT keeps it in one page

-- Canonical bytes: what COPY BINARY of one such expression delivers, as the Go programs read it.
-- Integers big endian, times as microseconds since 2000-01-01, null time = smallest int64.
create function ocsp_internal.length_prefixed(b bytea) returns bytea language sql immutable
  return int4send(octet_length(b)) || b;

create function ocsp_internal.certificate_canonical(issuer_id int, serial bytea, not_after timestamptz, revoked_at timestamptz, reason smallint)
  returns bytea language sql stable
  return int4send(issuer_id) || int2send(octet_length(serial)::int2) || serial || timestamptz_send(not_after)
         || coalesce(timestamptz_send(revoked_at), '\x8000000000000000'::bytea) || int2send(coalesce(reason, -1::int2));

create function ocsp_internal.issuer_canonical(i issuer) returns bytea language sql stable
  return int4send(i.id) || i.key_hash || ocsp_internal.length_prefixed(convert_to(i.name, 'UTF8')) || ocsp_internal.length_prefixed(i.certificate)
         || int4send(i.validity) || int4send(i.backdate) || int4send(i.max_staleness)
         || int4send(i.fresh_for_unknown) || int4send(i.http_max_age) || int4send(i.refresh)
         || ocsp_internal.length_prefixed(convert_to(i.never_issued, 'UTF8')) || ocsp_internal.length_prefixed(convert_to(i.profile, 'UTF8'))
         || ocsp_internal.length_prefixed(convert_to(i.crl_url, 'UTF8')) || boolsend(i.archive_cutoff) || int8send(i.policy_version)
         || case when i.crl = '' then ''::bytea else ocsp_internal.length_prefixed(i.crl) end;

create function ocsp_internal.responder_certificate_canonical(r responder_certificate) returns bytea language sql stable
  return r.fingerprint || int4send(r.issuer_id) || ocsp_internal.length_prefixed(r.serial) || ocsp_internal.length_prefixed(convert_to(r.site, 'UTF8')) || r.key_hash || ocsp_internal.length_prefixed(r.der);

create function ocsp_internal.correction_canonical(issuer_id int, serial bytea, revoked_at timestamptz, corrected_at timestamptz, note bytea)
  returns bytea language sql stable
  return int4send(issuer_id) || int2send(octet_length(serial)::int2) || serial || timestamptz_send(revoked_at) || timestamptz_send(corrected_at)
         || ocsp_internal.length_prefixed(note);

-- The row digest: the first 8 octets of SHA-256, as a signed 64-bit number. It
-- finds accidents, never an adversary: authenticity comes from signatures alone.
create function ocsp_internal.row_digest(canonical bytea) returns bigint language sql immutable
  return ('x' || encode(substring(sha256(canonical) from 1 for 8), 'hex'))::bit(64)::bigint;

-- Non-negative remainder: % of a negative numeric is negative in SQL.
create function ocsp_internal.mod64(n numeric) returns numeric language sql immutable
  return ((n % 18446744073709551616) + 18446744073709551616) % 18446744073709551616;

-- Trigger functions that write as their owner are for one table each: hung on another,
-- they would record changes that never were.
create function ocsp_internal.refuse_table(p_table oid) returns void language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'this trigger function is not for table %', p_table::regclass using errcode = 'insufficient_privilege';
end $$;

-- All rights of roles that are no owners, one right a line, in the form of rights.txt:
-- kind, object, privilege (of a column: privilege(column)), grantee.
create function ocsp_internal.rights() returns setof text language sql stable set search_path = pg_catalog, pg_temp as $$
  with ours as (select oid, nspname, nspacl, nspowner from pg_namespace where nspname in ('public', 'ocsp_internal', 'ocsp_feed')),
  acl as (
    select 'database' as kind, 'database' as object, '' as col, datdba as owner, coalesce(datacl, acldefault('d', datdba)) as acl
      from pg_database where datname = current_database()
    union all select 'schema', nspname, '', nspowner, coalesce(nspacl, acldefault('n', nspowner)) from ours
    union all select 'function', nspname || '.' || proname, '', proowner, coalesce(proacl, acldefault('f', proowner))
      from pg_proc join ours on ours.oid = pronamespace
    union all select case relkind when 'S' then 'sequence' else 'table' end, nspname || '.' || relname, '', relowner,
        coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
      from pg_class join ours on ours.oid = relnamespace where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all select 'table', nspname || '.' || relname, '(' || attname || ')', relowner, attacl
      from pg_attribute join pg_class c on c.oid = attrelid join ours on ours.oid = relnamespace where attacl is not null)
  select format('%s %s %s%s %s', kind, object, lower(a.privilege_type), col, case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end)
    from acl, aclexplode(acl) a where a.grantee <> owner and a.grantee <> (select datdba from pg_database where datname = current_database())
      and not (kind = 'schema' and a.grantee::regrole::text = 'pg_database_owner') order by 1;
$$;

reset role;

-- PUBLIC has no right to anything of ours: rights.txt lists the rights of each role.
revoke all on all functions in schema public, ocsp_internal from public;
revoke all on all tables in schema public, ocsp_internal from public;
revoke all on all sequences in schema public, ocsp_internal from public;
