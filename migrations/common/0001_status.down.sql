drop table feed_head, responder_certificate, certificate, issuer cascade;
drop function mod64(numeric), row_digest(bytea), lp(bytea);
drop function certificate_canonical(int, bytea, timestamptz, timestamptz, smallint);
