// Command ocspctl is the CA staff's tool: it sets up the databases, registers
// and revokes certificates, enrols and revokes sites, and asks the fleet how it
// is; at a site it makes the OCSP key in the token. Everything is done by hand
// and stands in the audit with the name of who did it.
//
// Verbs that change what is answered show their plan and do it with --apply.
// Exit codes: 0 done, 1 error, 2 usage, 3 checked and found wrong, 4 the token refused
// the PIN, which is not offered again. With --output json the error is JSON, too, on
// standard error: {"error": TEXT, "exit_code": CODE}.
package main

import (
	"syscall"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/about"
	"ocspfleet/cmd/ocspctl/approval"
	"ocspfleet/cmd/ocspctl/audit"
	"ocspfleet/cmd/ocspctl/casign"
	"ocspfleet/cmd/ocspctl/cert"
	"ocspfleet/cmd/ocspctl/config"
	"ocspfleet/cmd/ocspctl/crl"
	"ocspfleet/cmd/ocspctl/database"
	"ocspfleet/cmd/ocspctl/dns"
	"ocspfleet/cmd/ocspctl/doctor"
	"ocspfleet/cmd/ocspctl/feed"
	"ocspfleet/cmd/ocspctl/fleet"
	"ocspfleet/cmd/ocspctl/issuer"
	"ocspfleet/cmd/ocspctl/key"
	"ocspfleet/cmd/ocspctl/responder"
	"ocspfleet/hsm/tokenconf"
)

func main() {
	// A core dump would contain the token's PIN; some systems cannot forbid one, and make none.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	p := cli.New()
	p.Main(rootCommand(p))
}

func rootCommand(p *cli.Program) *cobra.Command {
	p.NoRetry, p.Choices = tokenconf.ErrPIN, choices
	var root *cobra.Command
	root = p.Root("ocspctl", "work on a fleet of OCSP responders: databases, issuers, certificates, keys, sites", "/etc/ocspfleet/ocspctl.yaml",
		database.Noun(p), issuer.Noun(p), cert.Noun(p), key.Noun(p), responder.Noun(p), crl.Noun(p), casign.Noun(p),
		feed.Noun(p), fleet.Noun(p, p.Verb(responder.RenewAll())), dns.Noun(p), approval.Noun(p), p.Verb(approval.Approve()), audit.Noun(p), p.Verb(doctor.Verb()), config.Noun(p),
		p.Verb(about.Man(func() *cobra.Command { return root })), p.Verb(about.Version()))
	return root
}

// choices are the flags whose values the shell can complete; where a flag's help
// names its values as `a|b|c`, they are taken from there.
var choices = map[string][]string{
	"reason": {
		"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
		"cessationOfOperation", "certificateHold", "privilegeWithdrawn", "aACompromise",
	},
}
