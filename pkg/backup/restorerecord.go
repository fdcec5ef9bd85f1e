package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/procedure"
)

// recordStep makes the log and this instance agree on where the data stands. A
// restore to an earlier moment appends a record, so that the next run is measured
// against it; otherwise only the local memory is set.
func (r *Restorer) recordStep() procedure.Step {
	line := "remember locally which generation the data is"
	if r.newTimeline() {
		line = fmt.Sprintf("append a record: restored to generation %d", r.Params.Generation)
	}
	return procedure.Step{
		Name: "record", Line: line,
		Apply:  func(ctx context.Context, run *procedure.Run) (any, error) { return r.record(ctx, run) },
		Undo:   procedure.NothingToUndo,
		Leaves: "the record: the next backup run measures the disk against it and saves what differs",
	}
}

func (r *Restorer) newTimeline() bool {
	return !r.Params.Latest && r.Params.Generation > 0 && r.wholeTree()
}

func (r *Restorer) record(ctx context.Context, run *procedure.Run) (any, error) {
	if r.Params.Generation == 0 || !r.wholeTree() {
		return nil, nil
	}
	var got Restored
	if err := run.Output("download", &got); err != nil {
		return nil, err
	}
	lock, err := durable.Acquire(LockPath(r.StateDir), "restore")
	if err != nil {
		return nil, heldBy(err)
	}
	defer lock.Release()
	log, err := OpenLog(ctx, r.Store, r.progress.Note)
	if err != nil {
		return nil, err
	}
	pos := r.at
	if pos.Seq != got.Generation { // another process did the download
		if pos, err = log.StateAt(ctx, got.Generation, nil); err != nil {
			return nil, err
		}
	}
	if r.newTimeline() && log.HeadSeq() != got.Generation {
		if pos, err = r.appendRestored(ctx, log, pos); err != nil {
			return nil, err
		}
	}
	rr := Runner{StateDir: r.StateDir}
	return map[string]uint64{"generation": pos.Seq}, rr.saveCache(log, pos, nil)
}

// appendRestored adds the record unless a former attempt already did.
func (r *Restorer) appendRestored(ctx context.Context, log *Log, to Position) (Position, error) {
	h, t, sum, err := log.tail(ctx)
	if err != nil {
		return to, err
	}
	if h.Epoch > r.Epoch {
		return to, fail.New(fail.Held, "%s: backup log: epoch %d of %s is in force, this writer has %d", r.Store, h.Epoch, name(h.Writer), r.Epoch)
	}
	here := Position{Seq: log.HeadSeq(), SHA256: sum, Epoch: h.Epoch, Time: h.Time, Writer: h.Writer, State: to.State}
	if sum != "" && h.Kind == KindRestored && h.RestoredTo == to.Seq && t.State == to.State.Summary() {
		return here, nil
	}
	content, done, err := r.stagedContent(ctx, log, to)
	if err != nil {
		return to, err
	}
	defer done()
	return log.Append(ctx, here, Header{Kind: KindRestored, Writer: r.Writer, RestoredTo: to.Seq}, r.Epoch, r.Now(),
		Changes{Puts: to.State.entries, Full: true}, content, r.StateDir)
}

// stagedContent gives the inline bytes of a generation from a scratch copy of
// its log, whatever became of the staging directory.
func (r *Restorer) stagedContent(ctx context.Context, log *Log, to Position) (contentFunc, func(), error) {
	dir := filepath.Join(r.dir(), "record") // whatever a crash left there is cleared by the sink
	done := func() { os.RemoveAll(dir) }
	if _, err := log.StateAt(ctx, to.Seq, &fileSink{dir: dir, keep: func(e Entry) bool { return e.Inline() }}); err != nil {
		done()
		return nil, nil, err
	}
	return func(e Entry) ([]byte, error) { return os.ReadFile(filepath.Join(dir, filepath.FromSlash(e.Path))) }, done, nil
}
