package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"
)

// print writes v as JSON, or what asTable makes of it.
func (p *program) print(v any, asTable func(*table)) error {
	if p.output == "json" {
		enc := json.NewEncoder(p.stdout)
		enc.SetEscapeHTML(false)
		if !p.oneLine {
			enc.SetIndent("", "  ")
		}
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
		return nil
	}
	t := &table{w: p.stdout, width: p.columns()}
	asTable(t)
	t.flush()
	return t.err
}

// outcome says what became of a change; every changing verb's JSON has it.
type outcome struct {
	Action  string `json:"action"`
	Applied bool   `json:"applied"` // false: only planned
	Changed bool   `json:"changed"` // something is, or with --apply would be, different
}

func (o outcome) tell(t *table) {
	switch {
	case !o.Applied && o.Changed:
		t.line("Nothing was done: this is the plan. --apply does it.")
	case !o.Applied:
		t.line("Nothing was done, and nothing is to be done: it is so already.")
	case o.Changed:
		t.line("Done.")
	default:
		t.line("Nothing was to be done: it is so already.")
	}
}

// stamp writes a time as all of ocspctl does: RFC 3339, UTC, whole seconds.
func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// stampOrNil is null in JSON for a time that there is none of.
func stampOrNil(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(stamp(t))
}

// textOrNil is null in JSON for an empty text.
func textOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// orDash is the cell of a value that may be missing.
func orDash(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}

// span writes a duration in the two units that matter.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Second:
		return d.Truncate(time.Second).String()
	default:
		return d.Truncate(time.Millisecond).String()
	}
}

// certificate is one certificate's status as ocspctl shows it.
type certificate struct {
	Issuer    string  `json:"issuer"`
	Serial    string  `json:"serial"` // lower-case hex of the DER content octets
	Status    string  `json:"status"` // good, revoked or never_issued
	NotAfter  *string `json:"not_after"`
	RevokedAt *string `json:"revoked_at"`
	Reason    *string `json:"reason"` // a name of RFC 5280
}

func showStatus(issuer string, serial db.Serial, s db.Status) certificate {
	c := certificate{
		Issuer: issuer, Serial: serial.String(), Status: "good",
		NotAfter: stampOrNil(s.NotAfter),
	}
	if s.Revoked {
		c.Status, c.RevokedAt, c.Reason = "revoked", new(stamp(s.RevokedAt)), textOrNil(s.Reason.String())
	}
	return c
}

func (c certificate) tell(t *table) {
	t.row("issuer", c.Issuer)
	t.row("serial", c.Serial)
	t.row("status", strings.ReplaceAll(c.Status, "_", " "))
	if c.NotAfter != nil {
		t.row("not after", *c.NotAfter)
	}
	if c.RevokedAt != nil {
		t.row("revoked at", *c.RevokedAt)
		t.row("reason", orDash(c.Reason))
	}
}
