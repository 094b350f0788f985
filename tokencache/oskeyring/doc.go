// Package oskeyring keeps logins with the help of the operating system's keyring.
package oskeyring
