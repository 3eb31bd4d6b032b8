package syntax

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// Windows programs begin a text with a byte order mark.
const (
	markUTF8  = "\xef\xbb\xbf"
	markUTF16 = "\xff\xfe"
	markBig16 = "\xfe\xff"
)

// ErrUTF16 says that a file is not UTF-8.
var ErrUTF16 = errors.New("it is UTF-16: want UTF-8 (PowerShell: Out-File -Encoding utf8)")

// Unmarked skips the byte order mark of UTF-8.
func Unmarked(in io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(in, MaxLine)
	start, _ := b.Peek(len(markUTF8)) // an error is returned again by the next read
	switch {
	case string(start) == markUTF8:
		_, err := b.Discard(len(markUTF8))
		return b, err
	case strings.HasPrefix(string(start), markUTF16), strings.HasPrefix(string(start), markBig16):
		return nil, ErrUTF16
	}
	return b, nil
}
