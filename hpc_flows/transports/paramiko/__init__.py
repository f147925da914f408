"""The same as OpenSSH's in pure Python: for where no `ssh` is installed, or keys are enough.

It keeps no connection for other processes, so a second factor is asked for at each login. It is
loaded only when `ssh_client = paramiko` chooses it.
"""
