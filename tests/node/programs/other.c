/* A program of somebody else on the same cgroup, named by -DNAME, at a hook of -DHOOK: it lets everything pass. */
__attribute__((section("cgroup/" HOOK), used)) int NAME(void *context)
{
	return 1;
}

__attribute__((section("license"), used)) char terms[] = "GPL";
