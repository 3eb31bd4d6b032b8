// Package cli makes a command line of verbs, and prints what they say. It owns the flags
// of every verb, exit codes, the table for people and the JSON for programs; it knows no
// word of the program's domain.
//
// A verb is a struct: its fields are its flags and arguments, Doc is its help, Run does it.
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
// The value that a field has in the list of the noun is the flag's default. A verb that
// changes something embeds Change (--apply and --why); one that takes --apply and ignores
// it, AtOnce; one that must tell a flag of value 0 from none, Given. What opens a database
// for a verb is a Wrapper around it.
//
// Nothing is said twice: a function makes a Record of a value of the domain, each Field
// with its key in JSON and its label in the table, and Show prints a document of such
// parts: Record (a line for each field), List (a row for each record), Object, Line, Said
// (for people alone), Quiet (for programs alone). ShowChange puts the Outcome around them.
// There are no structs for views.
//
// Errors: Usagef is exit code 2, Wrongf 3 (checked, and found wrong); all others are 1.
//
// In reading order: verb.go, bind.go, program.go, print.go, record.go, table.go, screen.go,
// suggest.go.
package cli
