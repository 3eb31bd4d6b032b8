package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// nearest is how many letters of a name may be wrong.
const nearest = 2

// meant returns ": did you mean ...?" for an unknown name that resembles one of cmd, else "".
func meant(cmd *cobra.Command, name, dashes string) string {
	cmd.SuggestionsMinimumDistance = nearest
	if found := cmd.SuggestionsFor(name); len(found) > 0 {
		return fmt.Sprintf(": did you mean %s%s?", dashes, strings.Join(found, " or "+dashes))
	}
	return ""
}

// flagMeant names the flag that an unknown one resembles.
func flagMeant(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	names := &cobra.Command{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	return fmt.Errorf("%w%s", err, meant(names, unknown.GetSpecifiedName(), "--"))
}

// complete gives the shells the values of flags, and turns off the completion of file names
// where none is wanted.
func (p *Program) complete(c *cobra.Command) {
	set := func(f *pflag.Flag) {
		values, known := p.Choices[f.Name]
		if _, named, ok := strings.Cut(f.Usage, "`"); ok {
			if named, _, _ = strings.Cut(named, "`"); strings.Contains(named, "|") && named == strings.ToLower(named) {
				values, known = strings.Split(named, "|"), true
			}
		}
		if !known {
			return
		}
		if err := c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // twice, or no such flag: a mistake in this program
		}
	}
	c.LocalFlags().VisitAll(set)
	for _, child := range c.Commands() {
		p.complete(child)
	}
}
