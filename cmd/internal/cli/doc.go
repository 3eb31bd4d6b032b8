// Package cli makes a command line of verbs, and prints their results. It owns the flags common
// to all verbs, exit codes, the table for people and the JSON for programs; it knows nothing
// about certificates.
//
// A verb is a struct: its fields are its flags and arguments, Doc is its help, Run executes it.
//
//	type show struct {
//		Issuer string `flag:"issuer,required" help:"the issuer's <NAME>"`
//	}
//
//	func (show) Doc() cli.Doc { return cli.Doc{Name: "show", Short: ..., Long: ..., Example: ...} }
//	func (v *show) Run(ctx context.Context, p *cli.Program) error { ... }
//
//	func Noun(p *cli.Program) *cobra.Command { return p.Verbs("issuer", "the CAs", &show{}) }
//
// The value of a field in the noun's list is the flag's default. A verb that changes something
// embeds Change (--apply and --why); one that accepts --apply and ignores it, AtOnce; one that
// must distinguish a flag of value 0 from a missing one, Given. A Wrapper around a verb opens a
// database for it.
//
// Each fact is written once: a function makes a Record of a value, each Field with its key in
// JSON and its label in the table, and Show prints a document of such parts: Record (a line for
// each field), List (a row for each record), Object, Line, Said (only for people), Quiet (only
// for programs). ShowChange puts the Outcome around them. There are no structs for views.
//
// Errors: Usagef is exit code 2, Wrongf 3 (checked, and found wrong); all others are 1.
//
// In reading order: verb.go, bind.go, program.go, print.go, record.go, table.go, screen.go,
// suggest.go.
package cli
