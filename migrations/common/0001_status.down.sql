drop table feed_head, correction, responder_certificate, certificate, issuer cascade;
drop function mod64(numeric), row_digest(bytea), lp(bytea);
drop function certificate_canonical(int, bytea, timestamptz, timestamptz, smallint), correction_canonical(int, bytea, timestamptz, timestamptz);
