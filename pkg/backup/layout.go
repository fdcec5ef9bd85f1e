package backup

import (
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Keys of everything the backup keeps, relative to the instance's root directory
// in the store (manta.rootDir). Nothing but the mirror lies under mirrorDir's
// manifests and images.
const (
	mirrorDir    = "backup"
	formatKey    = "backup/format.json"
	logDir       = "backup/log"
	baseDir      = "backup/base"
	historyDir   = "backup/history"
	readersDir   = "backup/readers"
	mirrorKey    = "backup/mirror.json"
	verifiedKey  = "backup/verified.json"
	condemnedKey = "backup/condemned.json"

	archiveExt = ".tar.gz"
	// recordsPerDir bounds a log directory so that finding the newest record costs
	// two listings at any length of the log.
	recordsPerDir = 1000
)

func recordDir(seq uint64) string {
	return fmt.Sprintf("%s/%08d", logDir, seq/recordsPerDir)
}

func recordKey(seq uint64) string {
	return fmt.Sprintf("%s/%012d%s", recordDir(seq), seq, archiveExt)
}

func baseKey(seq uint64) string {
	return fmt.Sprintf("%s/%012d%s", baseDir, seq, archiveExt)
}

// seqOf reads the number out of a record's or base's key.
func seqOf(key string) (uint64, bool) {
	name, ok := strings.CutSuffix(path.Base(key), archiveExt)
	if !ok || len(name) != 12 {
		return 0, false
	}
	n, err := strconv.ParseUint(name, 10, 64)
	return n, err == nil && n > 0
}

func mirrorPath(entryPath string) string { return mirrorDir + "/" + entryPath }

// historyKey names an image file's content by MD5 and size, the two facts every
// store lists, so that finding it needs no index.
func historyKey(e Entry) string {
	sum := hex.EncodeToString(e.MD5[:])
	return fmt.Sprintf("%s/%s/%s-%d", historyDir, sum[:2], sum, e.Size)
}
