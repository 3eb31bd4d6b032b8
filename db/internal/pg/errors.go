package pg

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocspfleet/db"

	"github.com/jackc/pgx/v5/pgconn"
)

// Plain turns what PostgreSQL says into words for people: what a function or trigger of
// ours raised stays as it is, the name of a constraint becomes a sentence, and so does
// what can happen to anybody. What is no answer of the database passes.
func Plain(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	refusal, connecting := (*db.Refusal)(nil), (*pgconn.ConnectError)(nil)
	if errors.As(err, &refusal) || errors.As(err, &connecting) {
		return err // it was turned before, or says where it wanted to go
	}
	if pg.Hint != "" || pg.Routine == "exec_stmt_raise" {
		return &db.Refusal{Message: pg.Message, Hint: pg.Hint, Cause: err}
	}
	s, known := SentenceOf(pg.TableName, pg.ConstraintName)
	if !known {
		s = stateSentence(pg)
	}
	return &db.Refusal{Message: s.Text, Hint: s.fix, Cause: err}
}

func IsCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains(codes, pg.Code)
}

// sentence says what is wrong and, where there is something to do, the fix.
type sentence struct{ Text, fix string }

// stateSentence finds words by SQLSTATE for what is no constraint's.
func stateSentence(pg *pgconn.PgError) sentence {
	switch pg.Code {
	case "42501":
		return sentence{
			fmt.Sprintf("permission denied: this login may not use %s", strings.TrimPrefix(pg.Message, "permission denied for ")),
			"Use a login of the right group: ocspctl db user says which there are.",
		}
	case "23502":
		return sentence{fmt.Sprintf("%s must not be left out", strings.ReplaceAll(pg.ColumnName, "_", " ")), ""}
	case "21000":
		return sentence{"a serial stands twice in one batch", "Remove the repeated one."}
	case "22003":
		return sentence{"a number is too large for the database", ""}
	case "22007", "22008":
		return sentence{"a time is none that the database takes", "Write it as 2026-11-22T15:04:05Z."}
	case "22021", "22P05":
		return sentence{"a text has an octet that is not allowed in a text (NUL, or no UTF-8)", "Remove it."}
	case "25006":
		return sentence{"the database is read-only: it is a standby, or set so", "Use the master's address."}
	case "40P01":
		return sentence{"two transactions waited for each other, and this one was ended", "Run it again."}
	case "53100":
		return sentence{"the database's disk is full", "Make room; nothing was done."}
	case "53300":
		return sentence{"the database has no connection left for this login", "End a session, or raise its limit: ocspctl db user add --connections."}
	case "55P03":
		return sentence{"another session holds what this one needs", "Try again; ocspctl doctor says who holds the head."}
	case "57014":
		return sentence{"the database was told to stop it, or it took too long", "Try again; ocspctl doctor says what holds it up."}
	case "57P01", "57P02", "57P03":
		return sentence{"the database is being shut down or started, or it ended this session", "Try again."}
	}
	return sentence{fmt.Sprintf("the database answers what is not foreseen here (%s): %s", pg.Code, pg.Message), "Its log tells more; please report it."}
}

// own are the tables that only our programs write, by the beginnings of their names: who
// breaks a rule of theirs has found a fault, and can do nothing about it.
var own = []string{
	"audit", "change", "closed_pin", "crl_", "feed_", "heartbeat", "login_kind", "long_transaction", "pending_change", "purge", "responder_credential", "responder_slot", "revocation_tally",
	"schema_", "segment", "serial_pool", "site_", "slot_allowed", "snapshot",
}

// SentenceOf finds the words for a constraint of a table.
func SentenceOf(table, constraint string) (sentence, bool) {
	if constraint == "" {
		return sentence{}, false
	}
	if s, known := Sentences[constraint]; known {
		return s, true
	}
	for _, name := range own {
		if strings.HasPrefix(table, name) {
			return sentence{
				fmt.Sprintf("the table %s does not take that (rule %s): this is a fault of the program, or of who wrote by hand", table, constraint),
				"Nothing was done; please report it.",
			}, true
		}
	}
	return sentence{}, false
}

// What is wrong with a time, a serial and a name, wherever they stand.
const (
	wantSerial  = "a serial has 1 to 20 octets in their shortest form and is not negative (RFC 5280 section 4.1.2.2)"
	wantTime    = "must be a whole second after 1970, and no infinity"
	wantSite    = "the name of a site is 1 to 63 lower-case letters, digits and dashes, no dash first"
	wantKeyHash = "the hash of a key is SHA-256 and has 32 octets"
	noSite      = "there is no site of that name on the roster"
	seeSites    = "ocspctl responder list shows the sites."
	noBug       = "Nothing was done; please report it."
)

// Sentences has the words for every constraint that a person can meet.
var Sentences = map[string]sentence{
	"approval_act_check":       {"there is no approval of that", "ocspctl approval request bulk and ocspctl cert correct ask for one."},
	"approval_check":           {"who approves is not who asks", "Another operator, with another login, runs ocspctl approve."},
	"approval_check1":          {"the request was decided already", "ocspctl approval list --all shows what became of it."},
	"approval_pkey":            {"the request has a number that is taken", noBug},
	"approval_remaining_check": {"an allowance cannot be less than nothing", noBug},
	"approval_why_check":       {"a request for approval says why", "Add --why TEXT."},

	"audit_act_long":     {"the name of an act has 100 octets at most", ""},
	"audit_crl_number":   {"the number of a CRL has 1 to 49 decimal digits (RFC 5280 section 5.2.3)", ""},
	"audit_os_user_long": {"the name of the operating system's user has 1,024 octets at most", ""},
	"audit_what_form":    {"what an audit entry says is a JSON object", ""},
	"audit_what_long":    {"what an audit entry says has 16,384 octets at most", "Name fewer certificates at once, or a shorter source."},
	"audit_why_long":     {"a reason has 1,024 octets at most", "Say it shorter in --why."},

	"pending_change_too_many": {"one transaction changes 300,000 rows at most", "Make several of it: others wait while one commits."},

	"certificate_ends_too_late":         {"a certificate ends before the year 10000", ""},
	"issuer_crl_url_long":               {"the URL of a CRL has 1,024 octets at most", "Give a shorter --crl-url."},
	"responder_url_long":                {"the URL of a site has 1,024 octets at most", "Give a shorter --url."},
	"responder_addresses_long":          {"a site has so many addresses that they take over 1,024 octets", "Give fewer."},
	"certificate_check":                 {"a certificate that is not revoked has no reason", "Give the time of the revocation, too."},
	"certificate_issuer_id_fkey":        {"there is no issuer of that number", "ocspctl issuer list shows the issuers."},
	"certificate_not_after_check":       {"the end of a certificate " + wantTime, ""},
	"certificate_pkey":                  {"a certificate of that issuer has this serial already", "ocspctl cert show says what it is."},
	"certificate_reason_check":          {"the reason is none of RFC 5280's", "Leave it out for unspecified; removeFromCRL is no revocation (section 5.3.1)."},
	"certificate_revoked_at_check":      {"the time of a revocation " + wantTime, ""},
	"certificate_serial_check":          {wantSerial, ""},
	"correction_corrected_at_check":     {"the time of a correction " + wantTime, ""},
	"correction_pkey":                   {"this revocation was corrected in this very second already", "Try again."},
	"correction_revoked_at_check":       {"the time of a revocation " + wantTime, ""},
	"correction_serial_check":           {wantSerial, ""},
	"issuer_backdate_check":             {"the backdate of an issuer's answers is 0 to 1h", "Give another --backdate."},
	"issuer_br":                         {"profile br wants never-issued unknown or unauthorized, a validity of 8h to 239h59m59s, and max-staleness and backdate together of half the validity below 16h, else of the validity less 8h and 96h at most (BR section 4.9.10)", "Change these, or leave --max-staleness to its default."},
	"issuer_certificate_check":          {"the certificate of an issuer has 1 to 65,535 octets", ""},
	"issuer_check":                      {"max-staleness is 1m to the validity", "Give another --max-staleness."},
	"issuer_check1":                     {"fresh-for-unknown is 10s to max-staleness", "Give another --fresh-for-unknown."},
	"issuer_check2":                     {"http-max-age is at most half of the validity", "Give another --http-max-age."},
	"issuer_crl_check":                  {"the CRL of responder certificates has 65,535 octets at most", "Let it name the responders' certificates alone."},
	"issuer_id_check":                   {"the number of an issuer is 1 or more", ""},
	"issuer_key_hash_check":             {wantKeyHash, ""},
	"issuer_key_hash_key":               {"this key under this subject is an issuer already", "ocspctl issuer list shows the issuers; ocspctl issuer set changes one."},
	"issuer_name_check":                 {"the name of an issuer is 1 to 63 lower-case letters, digits, dots, dashes and underscores, a letter or digit first", ""},
	"issuer_name_key":                   {"another issuer has this name already", "Give another --name; ocspctl issuer list shows the issuers."},
	"issuer_never_issued_check":         {"never-issued is unknown, revoked or unauthorized", ""},
	"issuer_pkey":                       {"another issuer has this number", "Try again."},
	"issuer_policy_version_check":       {"the version of a policy is 1 or more", noBug},
	"issuer_refresh_check":              {"refresh is 0 to 240h", "Give another --refresh."},
	"issuer_profile_check":              {"the profile is revocable or br", ""},
	"issuer_validity_check":             {"the validity of an issuer's answers is 1h to 240h", "Give another --validity."},
	"correction_note_check":             {"the signed note of a correction has 1 to 1,024 octets", noBug},
	"limits_id_check":                   {"there is one row of limits", noBug},
	"limits_pkey":                       {"there is one row of limits", noBug},
	"limits_revocations_per_hour_check": {"the limit is 0 to 1,000,000,000 revocations an hour", ""},

	"responder_certificate_check":                 {"the fingerprint is not the certificate's", noBug},
	"responder_certificate_der_check":             {"a responder certificate has 1 to 65,535 octets", ""},
	"responder_certificate_issuer_id_serial_fkey": {"the serial of the responder certificate was never registered", "Register it first: ocspctl responder add does both."},
	"responder_certificate_issuer_id_serial_key":  {"another responder certificate of this issuer has that serial", ""},
	"responder_certificate_key_hash_check":        {wantKeyHash, ""},
	"responder_certificate_pkey":                  {"this responder certificate is there already", "ocspctl responder list shows it."},
	"responder_certificate_site_check":            {wantSite, ""},
	"responder_dns_pkey":                          {"this address is noted already", noBug},
	"responder_dns_site_fkey":                     {noSite, seeSites},
	"responder_feed_key_pin":                      {"the pin of a feed key is SHA-256 and has 32 octets", "ocspctl key pin, at the site, prints it."},
	"responder_feed_key_pin_key":                  {"another site fetches the feed with this key", "Each site has a TLS key of its own: ocspctl key pin, there."},
	"responder_key_key_hash_check":                {wantKeyHash, ""},
	"responder_key_pkey":                          {"this key is known already", ""},
	"responder_key_site_fkey":                     {noSite, seeSites},
	"responder_login_check":                       {"a login is 1 to 63 lower-case letters, digits and underscores, a letter first", ""},
	"responder_login_key":                         {"another site has this login", "Each site replicates by a login of its own: ocspctl db user add."},
	"responder_name_check":                        {wantSite, ""},
	"responder_pkey":                              {"a site of that name is on the roster already", seeSites},
	"guessed_end_pkey":                            {"the end of this certificate is noted as a guess already", noBug},
	"responder_planned_check":                     {"a certificate ends after it begins", ""},
	"responder_planned_key_hash_check":            {wantKeyHash, ""},
	"responder_planned_pkey":                      {"a certificate with this serial is planned already", ""},
	"responder_planned_site_fkey":                 {noSite, seeSites},
	"responder_state_check":                       {"a site is active, suspended or revoked, or has left", noBug},
	"responder_withheld_issuer_id_serial_key":     {"a certificate with this serial is withheld already", ""},
	"responder_withheld_pkey":                     {"this certificate is withheld already", ""},
	"responder_withheld_site_fkey":                {noSite, seeSites},
}
