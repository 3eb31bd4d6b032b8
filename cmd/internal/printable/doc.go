// Package printable keeps what others wrote from being obeyed by the programs that
// show it: control characters by a terminal (Text, Writer), formulas by a spreadsheet
// (Cell, FromCell). It is the one owner of both; whoever prints goes through it.
//
// Site names, reasons, files, certificates and peers' answers are such texts. What it
// gives out is for eyes: a program reads --output json, whose values stay the same.
package printable
