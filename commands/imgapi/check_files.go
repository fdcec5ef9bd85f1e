package imgapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/instance/integrity"
)

// cacheSaved is how often the cache is written during a run, so that an
// interrupted one is not for nothing.
const cacheSaved = 30 * time.Second

// maxStrays is how many strays the answer lists.
const maxStrays = 1000

// checkFilesOptions are the dependencies and flags of `imgapi check-files`.
type checkFilesOptions struct {
	env   *cli.Env
	flags *instanceFlags
	self  string // how this group is called: "tritonops imgapi"

	UUIDs    []string
	Force    bool
	Simple   bool
	DockerV2 bool
	Parallel int
	Stor     string
}

func newCheckFiles(env *cli.Env, f *instanceFlags) *cobra.Command {
	o := &checkFilesOptions{env: env, flags: f}
	cmd := &cobra.Command{
		Use:   "check-files [UUID...]",
		Short: "Check the integrity of image files",
		Long: cli.Long(`Checks the files of all images, or of those named, against their manifests on
disk: size, SHA-1, content MD5, and whether a gzip, bzip2 or xz archive unpacks.
Files in Manta are read from there.

A file found good is not read again until it or its manifest changes. For each
broken one a block says what is wrong, what to run, and which images depend on
it. Manifests that cannot be read are reported too, and a look at everything
counts what belongs to no image, such as leftover uploads. Images are not changed; only
the cache <root>/data/tritonops/cache/check-files.json is written.

Without -v only what is not in order is listed, also with -j. A file that cannot
be reached is a finding; if no file could be reached at all, the exit status is 8.`,
			cli.InInstance, fail.Failed, fail.Usage, fail.Faults, fail.Refused, fail.Unreachable),
		Example: `  tritonops imgapi check-files
  tritonops imgapi check-files --simple
  tritonops imgapi check-files --force 2b683a82-a066-11e3-97ab-2faa44701c5a`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeUUIDs(env, f),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.UUIDs, o.self = args, cmd.Parent().CommandPath()
			if err := o.validate(cmd); err != nil {
				return err
			}
			return runCheckFiles(cmd.Context(), o)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&o.Force, "force", "f", false, "check also files that were found good before")
	fl.BoolVarP(&o.Simple, "simple", "s", false, "check only that the file is there and has the right size")
	fl.BoolVarP(&o.DockerV2, "docker-v2", "d", false, "only layers of Docker images with manifest version 2")
	fl.IntVarP(&o.Parallel, "parallel", "p", min(runtime.NumCPU(), 8), "files to check at a time")
	fl.StringVar(&o.Stor, "stor", "all", "files kept in this place: local, manta or all")
	f.addMantaFlags(cmd)
	// The only error is a flag that does not exist; it was made above.
	_ = cmd.RegisterFlagCompletionFunc("stor", cobra.FixedCompletions([]string{"local", "manta", "all"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *checkFilesOptions) validate(cmd *cobra.Command) error {
	for _, u := range o.UUIDs {
		if !instance.ValidUUID(u) {
			return cli.Usage(cmd, "%q: not the UUID of an image", u)
		}
	}
	if o.Parallel < 1 || o.Parallel > 64 {
		return cli.Usage(cmd, "--parallel %d: want 1 to 64", o.Parallel)
	}
	if o.Stor != "local" && o.Stor != "manta" && o.Stor != "all" {
		return cli.Usage(cmd, "--stor %s: want local, manta or all", o.Stor)
	}
	return nil
}

// checkReport is the answer of check-files.
type checkReport struct {
	Summary   integrity.Summary         `json:"summary"`
	NoFile    int                       `json:"images_without_file"`
	Files     []checkedFile             `json:"files"`
	Manifests []integrity.ManifestFault `json:"manifests"`
	StraySums []instance.StraySum       `json:"stray_sums"` // what lies in the data directory and belongs to no image
	Strays    []instance.Stray          `json:"strays"`     // the first of them
}

// checkedFile is one file of the answer; Fix are commands to paste.
type checkedFile struct {
	integrity.Fault
	Fix []string `json:"fix"`
}

func runCheckFiles(ctx context.Context, o *checkFilesOptions) error {
	i, err := o.flags.load(o.env)
	if err != nil {
		return err
	}
	sel := integrity.Select{UUIDs: o.UUIDs, DockerV2: o.DockerV2}
	if o.Stor != "all" {
		sel.Stor = o.Stor
	}
	survey, err := integrity.Take(ctx, i, sel)
	if errors.Is(err, fs.ErrNotExist) && len(o.UUIDs) > 0 {
		return fail.Hint(fail.New(fail.Usage, "%s", unknownImage(err)), "the images are those of %s", i.ManifestsDir())
	}
	if err != nil {
		return err
	}
	report, err := o.check(ctx, i, survey)
	if err != nil {
		return err
	}
	if err := o.print(i, report); err != nil {
		return err
	}
	return verdict(report)
}

func unknownImage(err error) string {
	return strings.TrimSuffix(err.Error(), fs.ErrNotExist.Error()) + "there is no such image"
}

// verdict is the exit code of a report that has been printed.
func verdict(r *checkReport) error {
	unreached := 0
	for _, f := range r.Files {
		if notReached(f) {
			unreached++
		}
	}
	broken := 0
	for _, m := range r.Manifests {
		if !m.Rejected {
			broken++
		}
	}
	switch {
	case r.Summary.Checked > 0 && unreached == r.Summary.Checked && broken == 0:
		return fail.Silent(fail.Unreachable)
	case r.Summary.Faults()+broken > 0:
		return fail.Silent(fail.Faults)
	}
	return nil
}

// check runs the checker with cache and progress.
func (o *checkFilesOptions) check(ctx context.Context, i *instance.Instance, survey *integrity.Survey) (*checkReport, error) {
	cachePath := filepath.Join(i.CacheDir(), "check-files.json")
	cache, err := integrity.LoadCache(cachePath)
	if err != nil {
		o.env.UI.Say("cache: starting anew: %v", err)
	}
	bar := o.env.UI.NewProgress()
	defer bar.Close()
	bar.Phase("check files", survey.Bytes, "bytes")
	c := &integrity.Checker{
		Stores: map[string]integrity.Files{
			integrity.Local: integrity.LocalFiles{Instance: i},
			integrity.Manta: newMantaFiles(ctx, o, i),
		},
		Cache: cache, Force: o.Force, Simple: o.Simple, Parallel: o.Parallel,
		Progress: bar, Now: o.env.Now, Reread: survey.Reread,
	}
	report := &checkReport{NoFile: survey.NoFile, Files: []checkedFile{}, StraySums: []instance.StraySum{}, Strays: []instance.Stray{}}
	saved := o.env.Now()
	var explainErr error
	report.Summary, err = c.Run(ctx, survey.Targets(ctx), func(r integrity.Result) {
		if err := o.note(ctx, i, survey, report, r); err != nil {
			explainErr = errors.Join(explainErr, err)
		}
		if o.env.Now().Sub(saved) > cacheSaved {
			saved = o.env.Now()
			o.save(cache, cachePath)
		}
	})
	report.Manifests = survey.Manifests
	if err == nil && len(o.UUIDs) == 0 && !o.DockerV2 && o.Stor == "all" {
		cache.Retain(func(uuid string) bool { _, ok := slices.BinarySearch(survey.UUIDs, uuid); return ok })
		report.StraySums, report.Strays, err = i.SumStrays(ctx, maxStrays)
	}
	o.save(cache, cachePath)
	return report, errors.Join(err, explainErr)
}

// save writes the cache. That it cannot be written costs time, not truth.
func (o *checkFilesOptions) save(c *integrity.Cache, path string) {
	if err := c.Save(path); err != nil {
		o.env.UI.Say("cache: not saved: %v", err)
	}
}

// note adds a result to the report if it belongs there.
func (o *checkFilesOptions) note(ctx context.Context, i *instance.Instance, s *integrity.Survey, report *checkReport, r integrity.Result) error {
	if r.State == integrity.OK {
		if o.env.Globals.Verbose || len(r.Warnings) > 0 {
			report.Files = append(report.Files, checkedFile{Fault: integrity.Fault{Result: r, Dependents: []integrity.Image{}, Heads: []integrity.Image{}}, Fix: []string{}})
		}
		return nil
	}
	f, err := s.Explain(ctx, r)
	if err != nil {
		return fmt.Errorf("image %s: what depends on it: %w", r.UUID, err)
	}
	report.Files = append(report.Files, checkedFile{Fault: f, Fix: fixes(o.self, i, f)})
	return nil
}
