package config

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// OcspdFile is where ocspd's configuration lies unless ocspctl is told otherwise.
const OcspdFile = "/etc/ocspfleet/ocspd.yaml"

// Ocspd is what ocspctl wants to know of ocspd's configuration. It is read without
// judging the rest: ocspd does that (config check --daemon ocspd).
type Ocspd struct {
	Listen   string   `yaml:"listen"`
	Admin    string   `yaml:"admin"`
	Database Database `yaml:"database"`
	Token    Token    `yaml:"token"`
	StateDir string   `yaml:"state_dir"`

	MoreTokens []Token `yaml:"more_tokens"`

	Issuers []struct {
		Certificate string `yaml:"certificate"`
		Fingerprint string `yaml:"fingerprint"`
	} `yaml:"issuers"`
}

// PeekOcspd reads it.
func PeekOcspd(file string) (Ocspd, error) {
	place := Ocspd{Admin: "127.0.0.1:9080", StateDir: "/var/lib/ocspd"} // ocspd's own defaults
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &place)
	}
	if err != nil {
		return Ocspd{}, fmt.Errorf("reading ocspd's configuration: %w", err)
	}
	if place.Listen == "" || place.Database.DSN == "" {
		return Ocspd{}, fmt.Errorf("reading ocspd's configuration: %s has no listen or no database.dsn: ocspctl config check --daemon ocspd %s", file, file)
	}
	return place, nil
}
