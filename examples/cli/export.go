package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/export"
)

func exportFlags(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.keyFile, "to", "", "`file` with the public key, in PEM, to which the\nexport is sealed")
}

func importFlags(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.keyFile, "key", "", "`file` with the private key, in PEM, that opens an\nexport")
	apiFlags(fs, o)
}

func (c *cli) export(ctx context.Context, args []string) error {
	if c.keyFile == "" {
		return usagef("whom is the export for? Name a public key with -to")
	}
	if args[0] == "-" && isTerminal(c.stdout) {
		return usagef("an export is not for a terminal: name a file, or a pipe")
	}
	pem, err := c.readFile(ctx, c.keyFile)
	if err != nil {
		return usagef("-to: %v", err)
	}
	key, err := export.ParsePublicKey(pem)
	if err != nil {
		return usagef("-to: %v", err)
	}
	s := &session{cli: c}
	if err := s.openCache(ctx); err != nil {
		return err
	}
	n := 0
	err = c.create(args[0], func(w io.Writer) (err error) {
		n, err = export.Write(w, key, s.cache.List(ctx))
		if n == 0 && err == nil {
			err = errors.New("there is no login to export")
		}
		return err
	})
	if n > 0 && (err == nil || errors.Is(err, tokencache.ErrCorrupt)) {
		s.say("Exported: %s. A refresh token can be spent once, so from now on use the logins in one place: either here, or where the export is imported.\n", logins(n))
	}
	return err
}

func (c *cli) imports(ctx context.Context, args []string) error {
	if c.keyFile == "" {
		return c.takeOver(ctx, args[0])
	}
	pem, err := c.readFile(ctx, c.keyFile)
	if err != nil {
		return usagef("-key: %v", err)
	}
	key, err := export.ParsePrivateKey(pem)
	if err != nil {
		return usagef("-key: %v", err)
	}
	in, err := c.openFile(ctx, args[0])
	if err != nil {
		return usagef("%v", err)
	}
	defer in.Close()
	s := &session{cli: c}
	if err := s.openCache(ctx); err != nil {
		return err
	}
	waiting := s.newProgress("Importing")
	waiting.start()
	imported, kept, err := s.cache.Import(ctx, export.Read(in, key))
	waiting.stop()
	if imported > 0 || err == nil {
		s.say("Imported: %s.\n", logins(imported))
	}
	if kept > 0 {
		s.say("Left as it was, because what is here is the same or newer: %s.\n", logins(kept))
	}
	if imported > 0 && c.profile.Provider == "" {
		return errors.Join(err, s.askForSettings())
	}
	return err
}

// askForSettings says how logins that came without settings become usable: other commands would
// ask for a login.
func (s *session) askForSettings() error {
	dir, err := s.settingsDir()
	if err == nil {
		s.say("No provider is known here yet: copy settings.json, which is not in an export, to %s, or name the provider with -provider or -issuer.\n", dir)
	}
	return err
}

func logins(n int) string {
	if n == 1 {
		return "1 login"
	}
	return fmt.Sprintf("%d logins", n)
}

// create writes a new file that only its owner can read, or standard output if name is "-". A
// file that is not whole is removed; one from which unreadable logins are missing is whole.
func (c *cli) create(name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(c.stdout)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s is there already, and is not overwritten", name)
	}
	if err != nil {
		return usagef("%v", err)
	}
	err = write(f)
	if whole := err == nil || errors.Is(err, tokencache.ErrCorrupt); !whole {
		return errors.Join(err, f.Close(), os.Remove(name))
	}
	return errors.Join(err, f.Sync(), f.Close())
}
