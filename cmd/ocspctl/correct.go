package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

// maxCorrected is how many certificates one request may name (the master's rule).
const maxCorrected = 1000

func (p *program) certCorrectCommand() *cobra.Command {
	var c change
	var issuer, file string
	var serials []string
	cmd := p.verb("correct", "take a wrong permanent revocation back; needs two operators", `
		ocspctl cert correct --issuer web-ca --serial 5F03A1
		ocspctl cert correct --issuer web-ca --serial 5F03A1 --why 'ticket 4712: the wrong serial was typed' --apply
		ocspctl cert correct --issuer web-ca --serials wrong-import.txt --why 'the file of another CA was imported' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error {
				return p.certCorrect(ctx, store, c, issuer, serials, file)
			})
		})
	cmd.Long = `A permanent revocation never becomes good again by itself, by an import or by a
restored backup. This is the only way: for a revocation that was a mistake, be it
typed or imported. With --apply a request is filed and nothing changes; another
operator, with another database login, looks at it and runs ocspctl approve ID
--apply within 24 hours, which makes the certificates good in one transaction.
The correction travels to the sites as a row of its own, and both persons and
the reason stay in the audit.

Refused for issuers of profile br, for holds (use cert release) and for the
certificates of sites (enrol them anew). Clients and caches that have seen
"revoked" may keep it until that answer's nextUpdate.`
	f := cmd.Flags()
	f.StringVar(&issuer, "issuer", "", "the issuer's `NAME`")
	f.StringSliceVar(&serials, "serial", nil, "the serial as openssl x509 -serial prints it (`HEX`, colons allowed); may be repeated")
	f.StringVar(&file, "serials", "", "take the serials from `FILE`, one a line")
	c.flags(cmd)
	require(cmd, "issuer")
	cmd.MarkFlagsOneRequired("serial", "serials")
	return cmd
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
	t.line(fmt.Sprintf("It needs a second approver: another operator runs ocspctl approve %d --apply (until %s).", *r.Request, *r.ExpiresAt))
}

func newRequested(action string, id int64, expires time.Time) requested {
	if id == 0 {
		return requested{outcome: outcome{action, false, true}}
	}
	return requested{outcome{action, true, false}, &id, new(stamp(expires))}
}

func (p *program) certCorrect(ctx context.Context, store *db.Store, c change, issuerName string, texts []string, file string) error {
	if c.apply && strings.TrimSpace(c.why) == "" {
		return usagef("--why: a correction says why")
	}
	act, err := c.act()
	if err != nil {
		return err
	}
	serials, err := serialsOf(texts, file)
	if err != nil {
		return err
	}
	issuer, err := issuerNamed(ctx, store, issuerName)
	if err != nil {
		return err
	}
	if issuer.Policy.Profile == db.ProfileBR {
		return fmt.Errorf("correcting: issuer %q has profile br: a revocation is never taken back (BR section 4.9.1)", issuer.Name)
	}
	views := make([]certificate, len(serials))
	for i, serial := range serials {
		status, err := store.Certificate(ctx, issuer.ID, serial)
		if err != nil {
			return fmt.Errorf("correcting serial %s of issuer %q: %w", serial, issuer.Name, err)
		}
		if !status.Permanent() {
			return fmt.Errorf("correcting serial %s of issuer %q: it is not revoked for ever (a hold ends with ocspctl cert release)", serial, issuer.Name)
		}
		views[i] = showStatus(issuer.Name, serial, status)
	}
	var id int64
	var expires time.Time
	if c.apply {
		if id, expires, err = store.RequestCorrection(ctx, issuer.ID, serials, act); err != nil {
			return err
		}
	}
	result := struct {
		requested
		Certificates []certificate `json:"certificates"` // as they are now
	}{newRequested("cert correct", id, expires), views}
	return p.print(result, func(t *table) {
		t.row("ISSUER", "SERIAL", "REVOKED AT", "REASON", "WOULD BE")
		for _, v := range views {
			t.row(v.Issuer, v.Serial, orDash(v.RevokedAt), orDash(v.Reason), "good")
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
