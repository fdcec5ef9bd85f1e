package mantad

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// metaLog is the file of changes. Its methods are called under the store's lock.
type metaLog struct {
	path string
	f    *os.File
	size int64
	recs int // records in the file
	buf  []byte
}

// openLog replays the log into apply. A record cut short at the end is what the
// death of a process leaves and is cut off; any other damage is an error, because
// guessing would lose objects silently.
func openLog(path string, apply func(record)) (*metaLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &metaLog{path: path, f: f}
	if err := l.replay(apply); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

func (l *metaLog) replay(apply func(record)) error {
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < int64(len(logMagic)) {
		return l.restart()
	}
	r := bufio.NewReaderSize(l.f, 1<<20)
	magic := make([]byte, len(logMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return err
	}
	if string(magic) != logMagic {
		return fmt.Errorf("%s: not a log of this version", l.path)
	}
	l.size = int64(len(logMagic))
	var head [8]byte
	var payload []byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return l.tail(err)
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n > maxRecord {
			return fmt.Errorf("%s: damaged at offset %d: record of %d bytes", l.path, l.size, n)
		}
		if uint32(cap(payload)) < n {
			payload = make([]byte, n)
		}
		payload = payload[:n]
		if _, err := io.ReadFull(r, payload); err != nil {
			return l.tail(err)
		}
		if crc32.Checksum(payload, crcTable) != binary.LittleEndian.Uint32(head[4:]) {
			return fmt.Errorf("%s: damaged at offset %d: checksum differs", l.path, l.size)
		}
		rec, err := parseRecord(payload)
		if err != nil {
			return fmt.Errorf("%s: damaged at offset %d: %w", l.path, l.size, err)
		}
		apply(rec)
		l.size += 8 + int64(n)
		l.recs++
	}
}

// tail ends a replay: at the end of the last whole record.
func (l *metaLog) tail(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if err := l.f.Truncate(l.size); err != nil {
		return err
	}
	_, err = l.f.Seek(l.size, io.SeekStart)
	return err
}

func (l *metaLog) restart() error {
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	if _, err := l.f.WriteAt([]byte(logMagic), 0); err != nil {
		return err
	}
	l.size, l.recs = int64(len(logMagic)), 0
	_, err := l.f.Seek(l.size, io.SeekStart)
	return err
}

// add writes one change with a single write call.
func (l *metaLog) add(key string, e *entry) error {
	l.buf = appendRecord(l.buf[:0], key, e)
	n, err := l.f.WriteAt(l.buf, l.size)
	if err != nil {
		// What was written in part must not stay in front of the next record.
		return errors.Join(err, l.f.Truncate(l.size))
	}
	l.size += int64(n)
	l.recs++
	return nil
}

// rewrite replaces the log by one that holds just the entries each yields.
func (l *metaLog) rewrite(each func(yield func(key string, e *entry) error) error) (err error) {
	tmp := l.path + ".new"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	size, recs := int64(len(logMagic)), 0
	if _, err = w.WriteString(logMagic); err != nil {
		return err
	}
	var buf []byte
	err = each(func(key string, e *entry) error {
		buf = appendRecord(buf[:0], key, e)
		size, recs = size+int64(len(buf)), recs+1
		_, err := w.Write(buf)
		return err
	})
	if err != nil {
		return err
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = os.Rename(tmp, filepath.Clean(l.path)); err != nil {
		return err
	}
	old := l.f
	l.f, l.size, l.recs = f, size, recs
	return old.Close()
}
