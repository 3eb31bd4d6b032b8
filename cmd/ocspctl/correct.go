package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

// maxCorrected is how many certificates one request may name (the master's rule).
const maxCorrected = 100

// mistake holds the flags that say what is wrong with the certificates.
type mistake struct {
	neverIssued bool
	notAfter    string
}

// of is the kind of mistake, and the right end.
func (m mistake) of() (db.Wrong, time.Time, error) {
	switch {
	case m.neverIssued:
		return db.WrongIssued, time.Time{}, nil
	case m.notAfter != "":
		end, err := parseTime(m.notAfter)
		return db.WrongNotAfter, end, err
	default:
		return db.WrongRevoked, time.Time{}, nil
	}
}

func (p *program) certCorrectCommand() *cobra.Command {
	var c change
	var m mistake
	var issuer, file string
	var serials []string
	cmd := p.verb("correct", "mend a wrong revocation or a wrong import; needs two operators", `
		ocspctl cert correct --issuer web-ca --serial 5F03A1
		ocspctl cert correct --issuer web-ca --serial 5F03A1 --why 'ticket 4712: the wrong serial was typed' --apply
		ocspctl cert correct --issuer web-ca --serials wrong-import.txt --never-issued --why 'the file of another CA was imported' --apply
		ocspctl cert correct --issuer web-ca --serial 5F03A1 --not-after 2027-02-01T00:00:00Z --why 'the file had local times' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			wrong, end, err := m.of()
			if err != nil {
				return err
			}
			list, err := serialsOf(serials, file)
			if err != nil {
				return err
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error {
				return p.certCorrect(ctx, store, c, correction{issuer, list, wrong, end})
			})
		})
	cmd.Long = `A permanent revocation never becomes good again by itself, by an import or by a
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
another answer may keep it until that answer's nextUpdate.`
	f := cmd.Flags()
	f.StringVar(&issuer, "issuer", "", "the issuer's `NAME`")
	f.StringSliceVar(&serials, "serial", nil, "the serial as openssl x509 -serial prints it (`HEX`, colons allowed); may be repeated")
	f.StringVar(&file, "serials", "", "take the serials from `FILE`, one a line")
	f.BoolVar(&m.neverIssued, "never-issued", false, "the issuer never issued them: forget them")
	f.StringVar(&m.notAfter, "not-after", "", "they end at `TIME`")
	c.flags(cmd)
	require(cmd, "issuer")
	cmd.MarkFlagsOneRequired("serial", "serials")
	cmd.MarkFlagsMutuallyExclusive("never-issued", "not-after")
	return cmd
}

// correction is what is to be asked for.
type correction struct {
	issuer   string
	serials  []db.Serial
	wrong    db.Wrong
	notAfter time.Time // the right end, of db.WrongNotAfter
}

// becomes says what the certificates are once it is approved.
func (c correction) becomes() string {
	switch c.wrong {
	case db.WrongIssued:
		return "never issued"
	case db.WrongNotAfter:
		return "until " + stamp(c.notAfter)
	default:
		return "good"
	}
}

// refuses says why a certificate is no case for it, or nil.
func (c correction) refuses(status db.Status) error {
	switch {
	case c.wrong == db.WrongRevoked && !status.Permanent():
		return errors.New("it is not revoked for ever (a hold ends with ocspctl cert release)")
	case c.wrong == db.WrongNotAfter && status.NotAfter.Equal(c.notAfter):
		return errors.New("it ends then already")
	}
	return nil
}

func (c correction) request(ctx context.Context, store *db.Store, issuer db.IssuerID, act db.Act) (int64, time.Time, error) {
	switch c.wrong {
	case db.WrongIssued:
		return store.RequestUnissue(ctx, issuer, c.serials, act)
	case db.WrongNotAfter:
		return store.RequestEnd(ctx, issuer, c.serials, c.notAfter, act)
	default:
		return store.RequestCorrection(ctx, issuer, c.serials, act)
	}
}

// requested is what a verb that needs a second person prints.
type requested struct {
	outcome
	Request   *int64  `json:"request"`    // null: only planned
	ExpiresAt *string `json:"expires_at"` // until when it can be approved
}

func (r requested) tell(t *table) {
	if r.Request == nil {
		t.line("Nothing was done: this is the plan. --apply files a request for a second approver.")
		return
	}
	t.line(fmt.Sprintf("Request %d is filed; nothing has changed yet.", *r.Request))
	t.line(fmt.Sprintf("It needs a second approver: another operator runs ocspctl approve %d --key FILE --apply (until %s).", *r.Request, *r.ExpiresAt))
}

func newRequested(action string, id int64, expires time.Time) requested {
	if id == 0 {
		return requested{outcome: outcome{action, false, true}}
	}
	return requested{outcome{action, true, false}, &id, new(stamp(expires))}
}

func (p *program) certCorrect(ctx context.Context, store *db.Store, c change, want correction) error {
	if c.apply && strings.TrimSpace(c.why) == "" {
		return usagef("--why: a correction says why")
	}
	act, err := c.act()
	if err != nil {
		return err
	}
	issuer, err := issuerNamed(ctx, store, want.issuer)
	if err != nil {
		return err
	}
	if issuer.Policy.Profile == db.ProfileBR {
		return fmt.Errorf("correcting: issuer %q has profile br: a revocation is never taken back (BR section 4.9.1), and nothing else is corrected", issuer.Name)
	}
	views := make([]certificate, len(want.serials))
	for i, serial := range want.serials {
		status, err := store.Certificate(ctx, issuer.ID, serial)
		if err == nil {
			err = want.refuses(status)
		}
		if err != nil {
			return fmt.Errorf("correcting serial %s of issuer %q: %w", serial, issuer.Name, err)
		}
		views[i] = showStatus(issuer.Name, serial, status)
	}
	var id int64
	var expires time.Time
	if c.apply {
		if id, expires, err = want.request(ctx, store, issuer.ID, act); err != nil {
			return err
		}
	}
	result := struct {
		requested
		Wrong        string        `json:"wrong"`        // revoked, issued or not_after
		NotAfter     *string       `json:"not_after"`    // the right end
		Certificates []certificate `json:"certificates"` // as they are now
	}{newRequested("cert correct", id, expires), string(want.wrong), stampOrNil(want.notAfter), views}
	return p.print(result, func(t *table) {
		t.row("ISSUER", "SERIAL", "NOT AFTER", "REVOKED AT", "REASON", "WOULD BE")
		for _, v := range views {
			t.row(v.Issuer, v.Serial, orDash(v.NotAfter), orDash(v.RevokedAt), orDash(v.Reason), want.becomes())
		}
		result.requested.tell(t)
	})
}

// serialsOf reads serials from the command line and from a file.
func serialsOf(texts []string, file string) ([]db.Serial, error) {
	var serials []db.Serial
	for _, text := range texts {
		serial, err := db.ParseSerial(text)
		if err != nil {
			return nil, usagef("--serial: %v", err)
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
		return nil, fmt.Errorf("reading serials: %s names %s: one request takes 1 to %d", file, strconv.Itoa(len(serials)), maxCorrected)
	}
	return serials, nil
}
