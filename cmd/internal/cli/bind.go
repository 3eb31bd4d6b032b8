package cli

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// binding connects a command with the fields of a verb.
type binding struct {
	cmd       *cobra.Command
	arguments []argument
	words     []string // old and new words of help texts, alternating
}

// argument is a field that is not a flag.
type argument struct {
	name string
	to   any // *string or *[]string
}

// bind adds the fields of a struct, and of those embedded in it.
func (b *binding) bind(of reflect.Value) {
	for i := range of.NumField() {
		field := of.Type().Field(i)
		embedded := field.Anonymous && field.Type.Kind() == reflect.Struct
		if !field.IsExported() {
			if embedded {
				b.bind(of.Field(i))
			}
			continue
		}
		to := of.Field(i).Addr().Interface()
		if known, ok := to.(interface{ bound(*cobra.Command) }); ok {
			known.bound(b.cmd)
		}
		switch name, isArg := field.Tag.Lookup("arg"); {
		case isArg:
			b.arguments = append(b.arguments, argument{name, to})
			b.cmd.Use += " " + name
		case field.Tag.Get("flag") != "":
			b.flag(field.Tag.Get("flag"), field.Tag.Get("help"), to)
		case embedded:
			b.bind(of.Field(i))
		}
	}
}

// flag adds one flag.
func (b *binding) flag(tag, help string, to any) {
	name, options, _ := strings.Cut(tag, ",")
	help = strings.NewReplacer(append([]string{"<", "`", ">", "`"}, b.words...)...).Replace(help)
	f := b.cmd.Flags()
	switch to := to.(type) {
	case *string:
		f.StringVar(to, name, *to, help)
	case *bool:
		f.BoolVar(to, name, *to, help)
	case *int:
		f.IntVar(to, name, *to, help)
	case *int64:
		f.Int64Var(to, name, *to, help)
	case *[]int64:
		f.Int64SliceVar(to, name, *to, help)
	case *time.Duration:
		f.DurationVar(to, name, *to, help)
	case *[]string:
		if options == "split" {
			f.StringSliceVar(to, name, *to, help)
		} else {
			f.StringArrayVar(to, name, *to, help)
		}
	default:
		panic(fmt.Sprintf("%s: a flag of type %T", name, to)) // a mistake in this program
	}
	var err error
	switch options {
	case "required":
		err = b.cmd.MarkFlagRequired(name)
	case "hidden":
		err = f.MarkHidden(name)
	}
	if err != nil {
		panic(err) // no such flag: a mistake in this program
	}
}

// args returns the check of the number of arguments.
func (b *binding) args() cobra.PositionalArgs {
	least, more := 0, false
	for _, a := range b.arguments {
		if !strings.HasPrefix(a.name, "[") {
			least++
		}
		more = more || strings.Contains(a.name, "...")
	}
	switch most := len(b.arguments); {
	case most == 0:
		return cobra.NoArgs
	case more:
		return cobra.MinimumNArgs(least)
	case least == most:
		return cobra.ExactArgs(most)
	case least == 0:
		return cobra.MaximumNArgs(most)
	default:
		return cobra.RangeArgs(least, most)
	}
}

// take puts the arguments into their fields.
func (b *binding) take(args []string) {
	for _, a := range b.arguments {
		switch to := a.to.(type) {
		case *[]string:
			*to, args = slices.Clone(args), nil
		case *string:
			if len(args) > 0 {
				*to, args = args[0], args[1:]
			}
		default:
			panic(fmt.Sprintf("%s: an argument of type %T", a.name, to)) // a mistake in this program
		}
	}
}
