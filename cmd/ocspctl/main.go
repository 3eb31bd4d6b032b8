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
	"ocspfleet/cmd/ocspctl/cert"
	"ocspfleet/cmd/ocspctl/config"
	"ocspfleet/cmd/ocspctl/database"
	"ocspfleet/cmd/ocspctl/dns"
	"ocspfleet/cmd/ocspctl/doctor"
	"ocspfleet/cmd/ocspctl/feed"
	"ocspfleet/cmd/ocspctl/fleet"
	"ocspfleet/cmd/ocspctl/key"
	"ocspfleet/hsm"
)

func main() {
	// A core would hold the token's PIN; where it cannot be forbidden there is none.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	p := &program{cli.New()}
	p.Main(p.rootCommand())
}

func (p *program) rootCommand() *cobra.Command {
	p.NoRetry, p.Choices = hsm.ErrPIN, choices
	var root *cobra.Command
	root = p.Root("ocspctl", "work on a fleet of OCSP responders: databases, issuers, certificates, keys, sites", "/etc/ocspfleet/ocspctl.yaml",
		database.Noun(p.Program), p.issuerCommand(), cert.Noun(p.Program), key.Noun(p.Program), p.responderCommand(), p.crlCommand(), p.caSignCommand(),
		feed.Noun(p.Program), fleet.Noun(p.Program, p.fleetRenewCommand()), dns.Noun(p.Program), approval.Noun(p.Program), p.Verb(approval.Approve()), audit.Noun(p.Program), p.Verb(doctor.Verb()), config.Noun(p.Program),
		p.Verb(about.Man(func() *cobra.Command { return root })), p.Verb(about.Version()))
	explain(root)
	return root
}
