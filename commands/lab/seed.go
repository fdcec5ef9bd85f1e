package lab

import (
	"github.com/spf13/cobra"
	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab"
	"github.com/tritonops/tritonops/pkg/ui"
)

func newSeed(o *options) *cobra.Command {
	var instance string
	var req lab.SeedRequest
	cmd := &cobra.Command{
		Use:   "seed",
		Short: "Fill an instance with images",
		Long: cli.Long(`seed makes a deterministic set of images in an instance: the same numbers give the
same files, byte for byte. The instance's IMGAPI is stopped meanwhile, because it
reads manifests at start only.

--stor says where the files are: local (the first --files on local disk, those of
the next --files images in the lab's Manta), manta (the first --files in Manta) or
mixed (every other one in Manta, --files of each). All other images have their file
in Manta as far as their manifest says, and no bytes anywhere.`, cli.Anywhere, fail.Failed, fail.Usage, fail.Refused, fail.Unreachable),
		Example: `  tritonops lab seed --dir /var/tmp/lab --images 200
  tritonops lab seed --dir /var/tmp/lab --images 10000 --files 1000 --seed 7
  tritonops lab seed --dir /var/tmp/lab --images 50 --stor mixed
  tritonops lab seed --dir /var/tmp/lab --images 20 --size-dist real --max-size 2GiB`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, err := o.one(instance)
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			sum, err := c.Seed(cmd.Context(), name, req)
			if err != nil {
				return err
			}
			return o.env.PrintText(sum, func(u *ui.UI) error {
				return u.Printf("%s: %d images, %d with files on local disk (%d bytes), %d in Manta (%d bytes), %d incremental, %d with icons, %d aborted uploads left behind\n",
					name, sum.Images, sum.Files, sum.FileBytes, sum.MantaFiles, sum.MantaBytes, sum.Incremental, sum.Icons, sum.Leftovers)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&instance, "instance", "", "the instance (default: the only one)")
	f.IntVar(&req.Images, "images", 100, "number of images")
	f.StringVar(&req.SizeDist, "size-dist", "small", "sizes of files: small (1 to 64 KiB) or real (log-normal around 180 MiB)")
	f.Uint64Var(&req.Seed, "seed", 0, "where all chance comes from")
	f.IntVar(&req.Files, "files", -1, "how many files with bytes there are, on local disk and in Manta each (default: all, at most 1000)")
	f.StringVar(&req.Stor, "stor", "local", "where the files are: local, manta or mixed")
	cli.BytesVar(f, &req.MaxSize, "max-size", 64<<20, "largest file with --size-dist real")
	o.completeFlag(cmd, "instance")
	// the only error is a flag that does not exist
	_ = cmd.RegisterFlagCompletionFunc("stor", cobra.FixedCompletions([]string{"local", "manta", "mixed"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
