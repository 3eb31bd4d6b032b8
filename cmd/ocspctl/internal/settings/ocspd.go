package settings

import (
	"fmt"
	"os"

	"ocspfleet/ops/config"

	"go.yaml.in/yaml/v3"
)

// OcspdFile is the default path of ocspd's configuration.
const OcspdFile = "/etc/ocspfleet/ocspd.yaml"

// PeekOcspd reads ocspd's configuration without checking it: ocspd does that (config check
// --daemon ocspd).
func PeekOcspd(file string) (config.Ocspd, error) {
	place := config.DefaultOcspd()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &place)
	}
	if err != nil {
		return config.Ocspd{}, fmt.Errorf("reading ocspd's configuration: %w", err)
	}
	if place.Listen == "" || place.Database.DSN == "" {
		return config.Ocspd{}, fmt.Errorf("reading ocspd's configuration: %s has no listen or no database.dsn: ocspctl config check --daemon ocspd %s", file, file)
	}
	return place, nil
}
