package mantad

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// logMagic begins meta.log and names its version.
const logMagic = "mantad-log 1\n"

const (
	opPut    = 1
	opDelete = 2
)

// maxRecord bounds what a record may claim to be: a path, 4 KB of m-* headers and
// the other stored headers fit many times over.
const maxRecord = 1 << 20

var errRecord = errors.New("record does not parse")

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// appendRecord adds one change in its log form: length, CRC-32C of the payload
// (both 4 bytes, little endian), payload. A nil entry is a deletion.
func appendRecord(b []byte, key string, e *entry) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	if e == nil {
		b = appendString(append(b, opDelete), key)
	} else {
		b = appendString(append(b, opPut), key)
		kind := byte(0)
		if e.dir {
			kind = 1
		}
		b = append(b, kind, e.copies)
		b = binary.AppendUvarint(b, uint64(e.pack))
		b = binary.AppendUvarint(b, uint64(e.off))
		b = binary.AppendUvarint(b, uint64(e.size))
		b = binary.AppendVarint(b, e.mtime)
		b = append(b, e.id[:]...)
		b = append(b, e.md5[:]...)
		b = appendString(b, e.ctype)
		b = binary.AppendUvarint(b, uint64(len(e.attrs)))
		for _, a := range e.attrs {
			b = appendString(appendString(b, a.name), a.value)
		}
	}
	payload := b[start+8:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(payload, crcTable))
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// record is a decoded change; its byte slices point into the input.
type record struct {
	op    byte
	key   []byte
	e     entry // without name
	ctype []byte
}

// parseRecord decodes a payload.
func parseRecord(p []byte) (record, error) {
	d := decoder{p: p}
	r := record{op: d.byte(), key: d.bytes()}
	switch r.op {
	case opDelete:
	case opPut:
		r.e.dir = d.byte() == 1
		r.e.copies = d.byte()
		r.e.pack = uint32(d.uint(1<<32 - 1))
		r.e.off = int64(d.uint(1<<62 - 1))
		r.e.size = int64(d.uint(1<<62 - 1))
		r.e.mtime = d.int()
		copy(r.e.id[:], d.take(16))
		copy(r.e.md5[:], d.take(16))
		r.ctype = d.bytes()
		for range d.uint(maxRecord) {
			a := attr{string(d.bytes()), string(d.bytes())}
			if d.bad {
				break
			}
			r.e.attrs = append(r.e.attrs, a)
		}
	default:
		return record{}, fmt.Errorf("%w: operation %d", errRecord, r.op)
	}
	if d.bad || len(d.p) > 0 {
		return record{}, errRecord
	}
	return r, nil
}

type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.p)) {
		d.bad = true
		return nil
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) uint(most uint64) uint64 {
	v, n := binary.Uvarint(d.p)
	if d.bad || n <= 0 || v > most {
		d.bad = true
		return 0
	}
	d.p = d.p[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.p)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.p = d.p[n:]
	return v
}

func (d *decoder) bytes() []byte { return d.take(d.uint(maxRecord)) }
