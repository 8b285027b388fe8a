/* A program of somebody else on the same cgroup, named by -DNAME: it lets everything pass. */
__attribute__((section("cgroup/connect4"), used)) int NAME(void *context)
{
	return 1;
}

__attribute__((section("license"), used)) char terms[] = "GPL";
