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

grant usage on schema public to ocsp_owner, ocsp_responder, ocsp_sync, ocsp_ca,
  ocsp_operator, ocsp_publisher, ocsp_replica, ocsp_subscriber;

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
  crl_url           text not null,
  policy_version    bigint not null check (policy_version > 0),
  -- BR 4.9.10: 8 h to 10 d; an answer of the oldest copy is still renewed in time:
  -- below 16 h before half of it is left, else 8 h before its end, 4 d after its begin.
  constraint issuer_br check (profile <> 'br' or (never_issued <> 'revoked' and validity between 28800 and 863999
    and backdate + max_staleness <= case when validity < 57600 then validity / 2 else least(validity - 28800, 345600) end))
);

-- One issued certificate. No personal data, ever. The serial is the DER INTEGER
-- content octets: minimal, not negative, at most 20 (RFC 5280 section 4.1.2.2).
create table certificate (
  issuer_id  int not null references issuer,
  serial     bytea not null check (
               octet_length(serial) between 1 and 20 and get_byte(serial, 0) < 128
               and (octet_length(serial) = 1 or get_byte(serial, 0) <> 0 or get_byte(serial, 1) >= 128)),
  not_after  timestamptz not null check (isfinite(not_after) and not_after > '1971-01-01 00:00Z'
               and extract(microseconds from not_after)::int % 1000000 = 0),
  revoked_at timestamptz check (isfinite(revoked_at) and revoked_at > '1971-01-01 00:00Z'
               and extract(microseconds from revoked_at)::int % 1000000 = 0),
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
  corrected_at timestamptz not null check (isfinite(corrected_at) and extract(microseconds from corrected_at)::int % 1000000 = 0),
  primary key (issuer_id, serial, revoked_at, corrected_at)
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
  purge_before                 timestamptz,
  audit_count                  bigint not null,
  audit_hash                   bytea not null
) with (fillfactor = 10);  -- one row, updated for ever: HOT keeps it in one page

-- Canonical bytes: what COPY BINARY of one such expression delivers, read by db.Canonical*.
-- Integers big endian, times as microseconds since 2000-01-01, null time = smallest int64.
create function lp(b bytea) returns bytea language sql immutable
  return int4send(octet_length(b)) || b;

create function certificate_canonical(issuer_id int, serial bytea, not_after timestamptz, revoked_at timestamptz, reason smallint)
  returns bytea language sql stable
  return int4send(issuer_id) || int2send(octet_length(serial)::int2) || serial || timestamptz_send(not_after)
         || coalesce(timestamptz_send(revoked_at), '\x8000000000000000'::bytea) || int2send(coalesce(reason, -1::int2));

create function issuer_canonical(i issuer) returns bytea language sql stable
  return int4send(i.id) || i.key_hash || lp(convert_to(i.name, 'UTF8')) || lp(i.certificate)
         || int4send(i.validity) || int4send(i.backdate) || int4send(i.max_staleness)
         || int4send(i.fresh_for_unknown) || int4send(i.http_max_age)
         || lp(convert_to(i.never_issued, 'UTF8')) || lp(convert_to(i.profile, 'UTF8'))
         || lp(convert_to(i.crl_url, 'UTF8')) || int8send(i.policy_version);

create function responder_certificate_canonical(r responder_certificate) returns bytea language sql stable
  return r.fingerprint || int4send(r.issuer_id) || lp(r.serial) || lp(convert_to(r.site, 'UTF8')) || r.key_hash || lp(r.der);

create function correction_canonical(issuer_id int, serial bytea, revoked_at timestamptz, corrected_at timestamptz) returns bytea language sql stable
  return int4send(issuer_id) || int2send(octet_length(serial)::int2) || serial || timestamptz_send(revoked_at) || timestamptz_send(corrected_at);

-- The row digest: the first 8 octets of SHA-256, as a signed 64-bit number. It
-- finds accidents, never an adversary: authenticity comes from signatures alone.
create function row_digest(canonical bytea) returns bigint language sql immutable
  return ('x' || encode(substring(sha256(canonical) from 1 for 8), 'hex'))::bit(64)::bigint;

-- Non-negative remainder: % of a negative numeric is negative in SQL.
create function mod64(n numeric) returns numeric language sql immutable
  return ((n % 18446744073709551616) + 18446744073709551616) % 18446744073709551616;

alter table issuer owner to ocsp_owner;
alter table certificate owner to ocsp_owner;
alter table responder_certificate owner to ocsp_owner;
alter table correction owner to ocsp_owner;
alter table feed_head owner to ocsp_owner;

grant select on issuer, certificate, responder_certificate, correction, feed_head, schema_common
  to ocsp_responder, ocsp_sync, ocsp_ca, ocsp_operator, ocsp_publisher, ocsp_replica, ocsp_subscriber;
