package instance

import "encoding/hex"

// id is a UUID in 16 bytes: names of 100,000 images fit in 1.6 MB, and byte order
// of ids is byte order of the names.
type id [16]byte

// parseID accepts what the server's regular expression does.
func parseID(s string) (id, bool) {
	var u id
	if len(s) != 36 {
		return u, false
	}
	var hexDigits [32]byte
	n := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return u, false
			}
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f':
			hexDigits[n] = c
			n++
		default:
			return u, false
		}
	}
	_, err := hex.Decode(u[:], hexDigits[:])
	return u, err == nil
}

// String returns the 36 character form.
func (u id) String() string {
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}
