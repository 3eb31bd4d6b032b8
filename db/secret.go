package db

import (
	"fmt"
	"os"
	"strings"
)

// readSecret reads a one-line secret from a file, without its line end.
func readSecret(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\n\r\x00") {
		return "", fmt.Errorf("%s: want one line with the secret", path)
	}
	return secret, nil
}
