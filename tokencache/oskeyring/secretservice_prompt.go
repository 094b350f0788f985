//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package oskeyring

import (
	"context"
	"errors"
	"slices"

	"github.com/godbus/dbus/v5"
)

const promptInterface = "org.freedesktop.Secret.Prompt"

// unlock unlocks keyrings or items. It calls waiting if a prompt is about to be shown.
func (s *secrets) unlock(ctx context.Context, objects []dbus.ObjectPath, waiting func()) error {
	var unlocked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err := s.call(ctx, secretsPath, secretsInterface+".Unlock", []any{objects}, &unlocked, &prompt)
	if err != nil || prompt == noObject {
		return err
	}
	waiting()
	return s.show(ctx, prompt)
}

// show shows a prompt and waits until it has been answered.
func (s *secrets) show(ctx context.Context, prompt dbus.ObjectPath) error {
	const (
		bus       = "org.freedesktop.DBus"
		completed = promptInterface + ".Completed"
	)
	signals := make(chan *dbus.Signal, 8)
	s.conn.Signal(signals)
	defer s.conn.RemoveSignal(signals)
	// The service may die while the prompt is up, and then its answer would never come.
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchObjectPath(prompt), dbus.WithMatchInterface(promptInterface)},
		{dbus.WithMatchInterface(bus), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, secretsName)},
	} {
		if err := s.conn.AddMatchSignalContext(ctx, match...); err != nil {
			return goKeyring{}.fail(ctx, Failed, err)
		}
		defer s.conn.RemoveMatchSignal(match...)
	}
	if err := s.call(ctx, prompt, promptInterface+".Prompt", []any{""}); err != nil {
		return err
	}
	for {
		select {
		case sig, ok := <-signals:
			switch {
			case !ok:
				return &Error{NoBus, dbus.ErrClosed}
			case sig.Name == completed && sig.Path == prompt:
				if len(sig.Body) > 0 && sig.Body[0] == true {
					return &Error{Locked, errors.New("the prompt was dismissed or could not be shown")}
				}
				return nil
			case sig.Name == bus+".NameOwnerChanged" && slices.Contains(sig.Body, any(secretsName)):
				return &Error{NoService, errors.New("the keyring service ended while its prompt was up")}
			}
		case <-ctx.Done():
			s.dismiss(prompt)
			return &Error{Locked, errors.New("nobody answered the prompt in time")}
		}
	}
}

// dismiss dismisses a prompt.
func (s *secrets) dismiss(prompt dbus.ObjectPath) {
	s.conn.Object(secretsName, prompt).Go(promptInterface+".Dismiss", dbus.FlagNoReplyExpected, nil)
}
