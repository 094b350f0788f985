/*
Package oskeyring keeps logins with the help of the operating system's keyring:
the Secret Service of a Linux or BSD desktop (GNOME Keyring, KWallet, KeePassXC),
the Keychain of macOS, the Credential Manager of Windows.

	cache, info, err := oskeyring.Open(ctx, "myapp")
	...
	fmt.Println(info) // logins are kept sealed in /home/ann/.local/state/myapp/stayauth; key: OS keyring

# What goes where

[Open] keeps a key of 32 bytes in the keyring and the records, sealed with it, in a
directory. So a record may have any size, whereas an item may hold no more than
2 560 bytes on Windows and about 3 000 on macOS; storing a new refresh token is one
atomic rename; and the keyring is asked once in the life of a process rather than
at every refresh. The key can be replaced with tokencache.Cache.Rekey.

[Items] is for programs that must not store logins on disk: a Store with an item for
each entry. It has the limits of the platform, and needs the keyring at every refresh.

# Where there is no keyring

In a container, over SSH or in a service there is often none, or it is locked and
nobody is there to unlock it. [Config].Accept says which other places for the key
will do, in order, and [Info] and a log line say which one was chosen:

	cache, info, err := oskeyring.Config{
		App: "myapp",
		Accept: []oskeyring.KeyChoice{
			oskeyring.Keyring(),
			oskeyring.Credential("myapp-key"),
			oskeyring.PassphraseEnv("MYAPP_PASSPHRASE"),
		},
	}.Open(ctx)

No other place is ever used. The best of these places that answers seals what is
saved. What a weaker one has sealed is still read, and sealed anew when it is saved next.
Once that has been done, the weaker place is no substitute: a keyring that is locked today
is an error, not a reason for a second key. A note in the directory says which place was
in use. It helps to find the key, but does not choose one.

# When the keyring does not answer

A keyring can wait for a prompt that nobody sees, for as long as the machine runs.
Every operation here has a time limit and ends with ctx. By default the user is
never asked; with Config.OnPrompt they are, once in the life of the process, and have
two minutes to answer. That also applies to the prompts for single items, which KeePassXC
shows by default: without OnPrompt they are an error at once. [Probe] finds out
whether the keyring works, and if not, why: see [Problem]. Open and Items do the same
before a login can be started.

An operation that was given up may still be carried out later. It therefore holds
the lock on its item until it has returned, so it cannot overwrite what has been
stored since, and until then this process uses the keyring for nothing else. Other
processes that want to write the same item get [NoAnswer] too, after their own
time limit.

# Where it was tried

Each entry names the tests that show what happens there. TestLifeOnEachDesktop
takes a login through short-lived processes, refreshes, restarts and locks on the first
three.

  - GNOME Keyring: the key is found in whichever keyring it is, and locked is not gone
    (TestRealKeyring, TestKeyringAppearsLater, TestDesktopUserUnlocks). A keyring that
    was recreated has lost the key, and Config.Discard starts over (TestKeyringReset).
  - KDE, KWallet 5: a wallet that was opened at login needs no prompt; a closed one is
    locked (TestKWalletOpenedAtLogin). With Config.OnPrompt its user is asked
    once; a refusal was tried (TestKWalletAsksItsUser). KWallet 6: not tried.
  - KeePassXC: whichever tab is shown, the key is found; a locked database is locked
    (TestKeePassXCWithTwoDatabases). By default each process has to be allowed to use
    each item: with Config.OnPrompt there is one window for all of them and two minutes,
    without it an error at once (TestKeePassXCAsksAboutEachItem,
    TestKeePassXCAsksForAllItemsInOneWindow). Allow it with "Remember".
  - macOS: not tried; its limits are kept (TestLimitIsExact).
  - Windows: the Credential Manager of Wine (TestRealCredentialManager).
  - SSH: a keyring that is locked on the machine's desktop says so at once
    (TestRealKeyringLocked); over SSH itself not tried. Without a desktop, see cron.
  - cron, a container: without a session bus there is no keyring, which is an error at once;
    nothing starts a bus (TestNoBus). Name other places in Config.Accept.
  - systemd: a credential holds the key (TestAccept); not tried under systemd itself.
    If the home directory cannot be written, as with DynamicUser and ProtectHome, an error
    before the login says that Config.Dir must be set: to the StateDirectory, for instance
    (TestHomeThatCannotBeWritten).
  - Flatpak: logins are kept in $XDG_STATE_HOME (TestFlatpak).
  - Snap: not tried; if it keeps programs from writing to the home directory, set
    Config.Dir, as for systemd, to a directory in $SNAP_USER_COMMON.
  - Kubernetes: a volume that is given to a group at every mount (fsGroup) is taken back
    (tokencache.TestDirIsTakenBackFromItsGroup).
  - A full or read-only disk: logins are read and used until a refresh is due, and nothing
    is spent (examples/cli, TestDiskThatCannotBeWritten, TestSpoiltDiskSpendsNothing). Space
    for the new tokens is reserved before (TestDiskThatIsFilledInMidRefresh).
  - A directory that was moved: its key follows (TestDirectoryThatWasMoved).

# What a crash can cost

From the answer of the provider until the new refresh token has been stored, a
crash can lose the login. With Open, that is the time of one write to a local disk.
With Items, which exchanges many messages with the keyring, it is many times as long.
BenchmarkWindow measures it.

# Guaranteed

  - No error of the keyring wraps tokencache.ErrNotFound. A locked keyring is not an
    empty one, and no key is made while it is locked, or in place of one that records
    need.
  - Of several keyrings, the one with the key is used, whichever is the default today.
    While any of them is locked, a key that is not found does not count as gone.
  - Processes that start for the first time at the same moment agree on one key.
  - If the key is lost, the records are kept, and the error is ErrCorrupt.
  - Nothing is overwritten that was stored after an operation had begun. What is
    written is read back.
  - At most one call waits for a keyring that does not answer, and others fail at once.

# Not guaranteed

  - Protection, if a key file in the directory of the records is accepted, against
    somebody who can write there. If there is a better place too, they can make up a login
    that the program uses, until the OS keyring has a key for this directory; any other
    better place cannot tell that it was in use. They cannot read what is saved while the
    better place answers, nor choose its key (TestWhoCanWriteDoesNotChooseTheKey). While
    that is locked or does not answer, and there is no login that it has sealed, the next
    login is sealed with the key file, which they can replace. Without a better place, they
    can read and make up every login. They cannot make a key file elsewhere, or a passphrase.
  - Protection against other programs of the same user, which may ask the keyring
    too. Of the desktops, only macOS distinguishes programs, and it takes all programs
    that use the security command for one.
  - That a process that is killed on macOS does not write once more: its last command
    is a process of its own.
  - That a probe on macOS and Windows that is given up or killed leaves nothing: it can
    leave a small item called probe-… behind, which nobody reads.
  - That the connection to the session bus is closed when it is idle: on Linux, a
    process that only reads closes it, and one that has written or prompted keeps it.
  - That a keyring has saved what it says it has: KeePassXC and KWallet answer first,
    and lose what they received in the last moments before a crash.
  - That an item is removed if the user would have to agree to that, as in KeePassXC:
    it is emptied instead.
  - That the keyring survives: when a user's password is reset, most desktops start
    with a new, empty one.
*/
package oskeyring
