/**
 * Files of 2 MiB pages, which every hugetlb mapping has, and the locks of their mappings. In the
 * order in which they are taken: the mutex of a page of the file, the lock of the VMA,
 * i_mmap_rwsem, the locks of the page tables.
 *
 * A page of a file has one reference by the file, and one by every entry that maps it, however many
 * address spaces use the table that the entry is in.
 *
 * Follows mm/hugetlb.c and fs/hugetlbfs/inode.c.
 *
 * Not modelled: the pool of huge pages and its reservations (a page comes from the allocator, and
 * may be refused by it), pages of 1 GiB, the size of a file, truncation. The pages of a file are not
 * in the reverse mapping: who looks for their entries finds them by the mappings of the file.
 */
import { call, UsageError } from '@shootdown/machine';
import {
  type AddressSpace,
  type Kernel,
  type Kthread,
  newRwSem,
  newSpinLock,
  pageOf,
  PMD_SIZE,
  putPage,
  type RwSem,
  type SpinLock,
  type VmArea,
  warnOnce,
} from '@shootdown/mmu-gather';

/** A file of 2 MiB pages, with none in it: hugetlb_file_setup. */
export const newHugetlbFile = (k: Kernel, name: string): AddressSpace => ({
  name,
  iMmapRwsem: newRwSem(k.machine, `${name}.i_mmap_rwsem`),
  mappings: new Set(),
  pages: new Map(),
});

/**
 * Gives back the pages of a file that nobody has mapped or open any more.
 *
 * @kernel fs/hugetlbfs/inode.c hugetlbfs_evict_inode
 */
export function* hugetlbfsEvictInode(k: Kernel, file: AddressSpace): Kthread {
  warnOnce(k, file.mappings.size > 0, 'a hugetlb file is evicted that is mapped');
  const frames = Array.from(file.pages.values());
  file.pages.clear();
  for (const frame of frames) yield* call(putPage(k, pageOf(k, frame)));
}

const isAligned = (at: number): boolean => at % PMD_SIZE === 0;

/**
 * vma->vm_file->f_mapping, of a hugetlb mapping.
 *
 * @throws UsageError ERR_WORKLOAD without a file, or for a mapping that is not of whole pages.
 */
export function hugetlbFileOf({ file, start, end, offset }: VmArea): AddressSpace {
  if (file === null)
    throw new UsageError(
      'ERR_WORKLOAD',
      'hugetlb memory is that of a file: give mmap one that newHugetlbFile() has made',
    );
  if (!isAligned(start) || !isAligned(end) || !isAligned(offset))
    throw new UsageError(
      'ERR_WORKLOAD',
      `${file.name} is mapped at 0x${start.toString(16)} up to 0x${end.toString(16)}: ` +
        'hugetlb memory is mapped, unmapped and advised in units of 2 MiB',
    );
  return file;
}

/** vma_hugecache_offset: which page of the file is at `addr`. */
export const hugePageIndex = (vma: VmArea, addr: number): number =>
  Math.floor((addr - vma.start + vma.offset) / PMD_SIZE);

const VMA_LOCKS = new WeakMap<VmArea, RwSem>();

/**
 * The lock of a mapping: who faults holds it for reading as long as it uses the entry it has found,
 * who lets a shared table go holds it for writing. It is struct hugetlb_vma_lock's, or a private
 * mapping's resv_map's.
 */
export function hugetlbVmaLock(k: Kernel, vma: VmArea): RwSem {
  let lock = VMA_LOCKS.get(vma);
  if (lock === undefined) {
    lock = newRwSem(k.machine, `${vma.mm.name}.vma_lock[${vma.start.toString(16)}]`);
    VMA_LOCKS.set(vma, lock);
  }
  return lock;
}

const FAULT_MUTEXES = new WeakMap<AddressSpace, Map<number, SpinLock>>();

/**
 * hugetlb_fault_mutex_table: whose fault brings page `index` in. Guards that entry of `file.pages`.
 *
 * Not modelled: that pages share a mutex by their hash.
 */
export function hugetlbFaultMutex(k: Kernel, file: AddressSpace, index: number): SpinLock {
  let mutexes = FAULT_MUTEXES.get(file);
  if (mutexes === undefined) {
    mutexes = new Map();
    FAULT_MUTEXES.set(file, mutexes);
  }
  let mutex = mutexes.get(index);
  if (mutex === undefined) {
    mutex = newSpinLock(k.machine, `${file.name}.fault_mutex[${index}]`);
    mutexes.set(index, mutex);
  }
  return mutex;
}
