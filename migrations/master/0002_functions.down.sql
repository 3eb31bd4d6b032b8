drop publication ocspfleet;
drop function head_init, heartbeat, note, issuer_add, issuer_set, certificate_issue, certificate_revoke, certificate_revoke_row, certificate_hold, certificate_release, limit_note, certificate_import, certificate_crl_number, replicas_wrote,
  responder_add, responder_certificate_add, responder_revoke;
