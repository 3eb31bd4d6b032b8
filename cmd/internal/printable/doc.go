// Package printable makes foreign text harmless for the programs that show it: control
// characters for a terminal (Text, Writer), formulas for a spreadsheet (Cell, FromCell). No
// other package does either; all output goes through it.
//
// Site names, reasons, files, certificates and peers' answers are such texts. The result is for
// people: a program reads --output json, whose values stay the same.
package printable
