package wire

import (
	"bytes"
	"testing"
)

// Room that was reckoned too small costs an allocation, never an octet.
func TestEncoderGrows(t *testing.T) {
	write := func(size int) []byte {
		e := newEncoder(size)
		outer := e.mark()
		inner := e.mark()
		e.put(bytes.Repeat([]byte{1}, 1000))
		e.wrap(tagOctetString, inner)
		e.putString("\x05\x00")
		e.wrap(tagSequence, outer)
		return e.bytes()
	}
	want := append([]byte{0x30, 0x82, 0x03, 0xee, 0x05, 0x00, 0x04, 0x82, 0x03, 0xe8}, bytes.Repeat([]byte{1}, 1000)...)
	for _, size := range []int{0, 1, 5, 999, 1003, 1009, 1010, 5000} {
		if got := write(size); !bytes.Equal(got, want) {
			t.Errorf("with room for %d: got %x", size, got)
		}
	}
}

// X.690 section 10.1: the length is minimal, at each border of its forms.
func TestEncoderLengths(t *testing.T) {
	for n, want := range map[int][]byte{
		0: {4, 0}, 127: {4, 127}, 128: {4, 0x81, 128}, 255: {4, 0x81, 255}, 256: {4, 0x82, 1, 0},
		65535: {4, 0x82, 0xff, 0xff}, 65536: {4, 0x83, 1, 0, 0},
	} {
		e := newEncoder(n + 10)
		start := e.mark()
		e.put(make([]byte, n))
		e.wrap(tagOctetString, start)
		if got := e.bytes(); len(got) != n+len(want) || !bytes.HasPrefix(got, want) {
			t.Errorf("%d: got %x", n, got[:min(len(got), 6)])
		}
	}
}
