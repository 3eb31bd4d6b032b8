package cert

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// maxCorrected is how many certificates one request may name (the master's rule).
const maxCorrected = 100

// correct is cert correct.
type correct struct {
	cli.Change
	Issuer      string   `flag:"issuer,required" help:"the issuer's <NAME>"`
	Texts       []string `flag:"serial,split" help:"the serial as openssl x509 -serial prints it (<HEX>, colons allowed); may be repeated"`
	File        string   `flag:"serials" help:"take the serials from <FILE>, one a line"`
	NeverIssued bool     `flag:"never-issued" help:"the issuer never issued them: forget them"`
	NotAfter    string   `flag:"not-after" help:"they end at <TIME>"`

	serials []db.Serial
	wrong   db.Wrong
	end     time.Time // the correct end, of db.WrongNotAfter
}

func (correct) Doc() cli.Doc {
	return cli.Doc{
		Name: "correct", Short: "mend a wrong revocation or a wrong import; needs two operators",
		Long: `A permanent revocation never becomes good again by itself, by an import or by a
restored backup, nothing unregisters a certificate, and its end never moves back.
This is the only way, for what was a mistake, be it typed or imported: a revocation
becomes good; with --never-issued the master and the sites forget the certificate,
good or revoked; with --not-after it ends then. With --apply a request is filed and
nothing changes; another operator, with another database login, looks at it and
runs ocspctl approve ID --key FILE --apply within 24 hours, which makes the correction
in one transaction (or approval refuse ID). Where a permanent revocation is touched,
the second person's key signs that, and the sites believe the signature alone: the key
set in force must name such a key (docs/feed-keys.md). Both persons and the reason stay
in the audit. A request names at most 100 certificates.

Refused for issuers of profile br, for holds that were wrong (use cert release) and
for the certificates of sites (enrol them anew). Clients and caches that have seen
another answer may keep it until that answer's nextUpdate.`,
		Example: `
		ocspctl cert correct --issuer web-ca --serial 5F03A1
		ocspctl cert correct --issuer web-ca --serial 5F03A1 --why 'ticket 4712: the wrong serial was typed' --apply
		ocspctl cert correct --issuer web-ca --serials wrong-import.txt --never-issued --why 'the file of another CA was imported' --apply
		ocspctl cert correct --issuer web-ca --serial 5F03A1 --not-after 2027-02-01T00:00:00Z --why 'the file had local times' --apply`,
		OneOf: "serial serials", Exclusive: "never-issued not-after",
	}
}

// Check reads the serials, and the mistake in the certificates.
func (v *correct) Check() (err error) {
	switch v.wrong = db.WrongRevoked; {
	case v.NeverIssued:
		v.wrong = db.WrongIssued
	case v.NotAfter != "":
		v.wrong = db.WrongNotAfter
		v.end, err = cli.ParseTime(v.NotAfter)
	}
	if err == nil {
		v.serials, err = serialsOf(v.Texts, v.File)
	}
	if err == nil {
		err = v.WantWhy("a correction")
	}
	return err
}

// becomes describes the certificates after the approval.
func (v *correct) becomes() string {
	switch v.wrong {
	case db.WrongIssued:
		return "never issued"
	case db.WrongNotAfter:
		return "until " + cli.Stamp(v.end)
	default:
		return "good"
	}
}

// refuses says why a certificate cannot be corrected in this way, or nil.
func (v *correct) refuses(status db.Status) error {
	switch {
	case v.wrong == db.WrongRevoked && !status.Permanent():
		return errors.New("it is not revoked for ever (a hold ends with ocspctl cert release)")
	case v.wrong == db.WrongNotAfter && status.NotAfter.Equal(v.end):
		return errors.New("it ends then already")
	}
	return nil
}

func (v *correct) request(ctx context.Context, store *masterdb.DB, issuer db.IssuerID) (int64, time.Time, error) {
	act, err := ctl.Act(v.Change)
	switch {
	case err != nil:
		return 0, time.Time{}, err
	case v.wrong == db.WrongIssued:
		return store.RequestUnissue(ctx, issuer, v.serials, act)
	case v.wrong == db.WrongNotAfter:
		return store.RequestEnd(ctx, issuer, v.serials, v.end, act)
	default:
		return store.RequestCorrection(ctx, issuer, v.serials, act)
	}
}

func (v *correct) Run(ctx context.Context, m *ctl.Master) error {
	issuer, err := m.Issuer(ctx, v.Issuer)
	if err != nil {
		return err
	}
	if issuer.Policy.Profile == db.ProfileBR {
		return fmt.Errorf("correcting: issuer %q has profile br: a revocation is never taken back (BR section 4.9.1), and nothing else is corrected", issuer.Name)
	}
	all := make([]ctl.Certificate, len(v.serials))
	for i, serial := range v.serials {
		status, err := m.Store.Certificate(ctx, issuer.ID, serial)
		if err == nil {
			err = v.refuses(status)
		}
		if err != nil {
			return fmt.Errorf("correcting serial %s of issuer %q: %w", serial, issuer.Name, err)
		}
		all[i] = ctl.ShowStatus(issuer.Name, serial, status)
	}
	requested, err := ctl.Request(v.Change, func() (int64, time.Time, error) { return v.request(ctx, m.Store, issuer.ID) })
	if err != nil {
		return err
	}
	return m.ShowChange(requested, cli.Record{cli.F("wrong", "", v.wrong), cli.F("not_after", "", v.end)}, cli.List("certificates", all, v.record))
}

// record returns a certificate as it is now, and as it would be.
func (v *correct) record(c ctl.Certificate) cli.Record {
	return cli.Record{
		cli.F("issuer", "ISSUER", c.Issuer), cli.F("serial", "SERIAL", c.Serial), cli.F("status", "", c.Status), cli.F("not_after", "NOT AFTER", c.NotAfter),
		cli.F("revoked_at", "REVOKED AT", c.RevokedAt), cli.F("reason", "REASON", c.Reason), cli.F("", "WOULD BE", v.becomes()),
	}
}

// serialsOf reads serials from the command line and from a file.
func serialsOf(texts []string, file string) ([]db.Serial, error) {
	var serials []db.Serial
	for _, text := range texts {
		serial, err := db.ParseSerial(text)
		if err != nil {
			return nil, cli.Usagef("--serial: %v", err)
		}
		serials = append(serials, serial)
	}
	if file == "" {
		return serials, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading serials: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		serial, err := db.ParseSerial(text)
		if err != nil {
			return nil, fmt.Errorf("reading serials: %s:%d: %w", file, n, err)
		}
		serials = append(serials, serial)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading serials: %s: %w", file, err)
	}
	if len(serials) == 0 || len(serials) > maxCorrected {
		return nil, fmt.Errorf("reading serials: %s names %s: one request takes 1 to %d", file, fmt.Sprint(len(serials)), maxCorrected)
	}
	return serials, nil
}
